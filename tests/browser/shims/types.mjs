// The public methods that a vendor's npm types declare, as the compiler of the browser scripts reads them.

import { createRequire } from "node:module";

const ts = createRequire(new URL("../../../static/sdk/package.json", import.meta.url))("typescript");
const at = (path) => new URL(`../node_modules/${path}`, import.meta.url).pathname;

/** Hidden from who uses the library: TypeScript's own word, or the vendor's. */
const isHidden = (symbol) =>
  /^(_|#)/.test(symbol.name) ||
  (symbol.declarations ?? []).some((it) => ts.getCombinedModifierFlags(it) & (ts.ModifierFlags.Private | ts.ModifierFlags.Protected)) ||
  symbol.getJsDocTags().some(({ name }) => name === "internal");

/**
 * The names of the methods of a class, an interface or an exported value that a file of types has, or with no name
 * of the functions that it exports.
 */
export function methodsOf(path, name) {
  const file = at(path);
  const options = { moduleResolution: ts.ModuleResolutionKind.Bundler, module: ts.ModuleKind.ESNext, target: ts.ScriptTarget.ES2022,
    lib: ["lib.es2022.d.ts", "lib.dom.d.ts"], skipLibCheck: true, types: [] };
  const program = ts.createProgram([file], options);
  const checker = program.getTypeChecker();
  const source = program.getSourceFile(file);
  const own = checker.getSymbolAtLocation(source);
  const exported = checker.getExportsOfModule(own);
  const resolve = (symbol) => (symbol.flags & ts.SymbolFlags.Alias ? checker.getAliasedSymbol(symbol) : symbol);
  const typeOf = (symbol) => checker.getTypeOfSymbolAtLocation(symbol, source);
  let members = exported;
  if (name) {
    const found = exported.map((it) => [it.name, resolve(it)]).find(([it]) => it === name)?.[1] ??
      checker.getSymbolsInScope(source, ts.SymbolFlags.Type).find((it) => it.name === name);
    if (!found) throw new Error(`${path} has no ${name}`);
    const isType = found.flags & (ts.SymbolFlags.Class | ts.SymbolFlags.Interface | ts.SymbolFlags.TypeAlias);
    members = checker.getPropertiesOfType(isType ? checker.getDeclaredTypeOfSymbol(found) : typeOf(found));
  }
  const isMethod = (symbol) => {
    const type = checker.getNonNullableType(typeOf(resolve(symbol)));
    return type.getCallSignatures().length > 0;
  };
  return members.filter((it) => !isHidden(it) && isMethod(it)).map((it) => it.name).sort();
}
