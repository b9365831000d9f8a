import { useLoaderData } from "@remix-run/react";
import { LAMPS } from "../shop.js";

export const meta = () => [{ title: "Lamps: home" }, { name: "description", content: "Lamps & more" }];

export const loader = () => ({ lamps: LAMPS });

export default function Home() {
  const { lamps } = useLoaderData();
  return (
    <>
      <h1>Lamps</h1>
      <ul>{lamps.map(({ id, name, price }) => <li key={id}>{name}: {price}</li>)}</ul>
    </>
  );
}
