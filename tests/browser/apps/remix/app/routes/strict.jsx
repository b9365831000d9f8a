export const meta = () => [{ title: "Lamps: strict" }];

export default function Strict() {
  return <h1>Under a policy with a nonce</h1>;
}
