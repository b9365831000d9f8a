//! Checks the syntax of an integration's file before browsers receive it.
//!
//! The check finds the author's slips. It runs nothing, and passes what it cannot decide (a file that nests
//! beyond [`MAX_DEPTH`]): the page reports what a browser rejects.

use oxc_allocator::Allocator;
use oxc_parser::Parser;
use oxc_span::SourceType;

/// The parser is recursive and takes up to about 20 KiB per level. Unused pages cost nothing.
const STACK_BYTES: usize = 256 << 20;

/// Nested brackets; more are generated, or an attack on the stack.
const MAX_DEPTH: usize = 1000;

/// Operators of one statement, each of which may be a level: `!!!!x`, `a ? b : c ? d : e`.
const MAX_OPERATORS: usize = 2000;

/// The longest message in characters: it may quote the file.
const MESSAGE_CHARS: usize = 200;

/// A syntax error with its line.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ScriptSyntaxError {
    /// The line of the file, counted from 1.
    pub(super) line: usize,
    pub(super) message: String,
}

/// The first syntax error in the body of a function. `wrapped` is the script that browsers get, in which
/// the body begins on the second line and has `lines` lines.
pub(super) fn find_syntax_error(wrapped: String, lines: usize) -> Option<ScriptSyntaxError> {
    let (depth, operators) = nesting(&wrapped);
    if depth > MAX_DEPTH || operators > MAX_OPERATORS {
        return None;
    }
    let parse = move || {
        let allocator = Allocator::default();
        let parsed = Parser::new(&allocator, &wrapped, SourceType::script()).parse();
        let problem = parsed.diagnostics.first()?;
        let offset = problem.labels.first().map(|label| label.offset());
        let line = offset.map(|offset| {
            let before = wrapped.bytes().take(usize::try_from(offset).unwrap_or(usize::MAX));
            before.filter(|byte| *byte == b'\n').count()
        });
        Some((line, problem.message.to_string()))
    };
    let thread = std::thread::Builder::new().stack_size(STACK_BYTES).spawn(parse).ok()?;
    // A defect of the parser is no mistake of the file.
    let (line, problem) = thread.join().ok().flatten()?;
    let message = format!("cannot be read as JavaScript: {problem}");
    Some(ScriptSyntaxError {
        // Unclosed brackets are found after the file's end.
        line: line.unwrap_or(lines).clamp(1, lines.max(1)),
        message: message.chars().take(MESSAGE_CHARS).flat_map(char::escape_debug).collect(),
    })
}

/// The depth of nested brackets and the number of operators of one statement, at most. Those in string
/// literals count as well, which errs on the safe side.
fn nesting(text: &str) -> (usize, usize) {
    let (mut depth, mut operators) = (0_usize, 0_usize);
    let (mut deepest, mut most) = (0, 0);
    for byte in text.bytes() {
        match byte {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            b'!' | b'~' | b'+' | b'-' | b'?' | b'=' => operators += 1,
            b';' | b',' => operators = 0,
            _ => {}
        }
        (deepest, most) = (deepest.max(depth), most.max(operators));
    }
    (deepest, most)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mistake(body: &str) -> Option<ScriptSyntaxError> {
        find_syntax_error(super::super::wrapped("x", body), body.lines().count())
    }

    #[test]
    fn find_syntax_error_returns_the_line() {
        for (body, line) in [
            ("function handle( {", 1),
            ("const a = 1;\nfunction handle(event) {\n  return a +;\n}\n", 3),
            ("function handle(event) {\n  if (event) {\n}\n", 3),
            ("function handle() {}\nlet x = 'open\n", 2),
            ("function handle() {\n  return await 1;\n}\n", 2),
        ] {
            let found = mistake(body).unwrap_or_else(|| panic!("{body} is taken"));
            assert_eq!(found.line, line, "{body}: {}", found.message);
            assert!(found.message.starts_with("cannot be read as JavaScript"), "{}", found.message);
        }
    }

    #[test]
    fn find_syntax_error_accepts_valid_scripts() {
        for body in [
            "function handle(event, context, done) { done(null, event?.properties?.a ?? 1); }",
            "async function handle(e) { for await (const x of e) { await x; } }",
            "const handle = async ({ a, ...rest }, [b = 1, ...c]) => ({ ...rest, [a]: b ** 2 });",
            "class A { #x = 1; static { A.y = 1; } get x() { return this.#x; } static async *g() {} }\n\
             function handle() { return new A().x; }",
            "var handle = function () { try { return /(?<y>\\d{4})[/]/u.test(`a${1 + 1}b`); } catch { } };",
            "function handle() { label: for (;;) { break label; } return 1_000n; } // end",
            "function handle(a) { a ||= 1; a &&= 2; a ??= 3; return import('x'); }",
            "function handle() { if (1) function f() {} return 1; }",
            "/* \u{e4}\u{1f600} */ function handle() { return '\u{2028}'; }\nif (0) return;",
            "window.dataLayer = window.dataLayer || []; function handle(e) { dataLayer.push(arguments); }",
        ] {
            assert_eq!(mistake(body), None, "{body}");
        }
    }

    #[test]
    fn find_syntax_error_skips_deeply_nested_files() {
        assert_eq!(mistake(&"(".repeat(200_000)), None);
        assert_eq!(
            mistake(&format!("function handle() {{ return {}1; }}", "!".repeat(200_000))),
            None
        );
    }
}
