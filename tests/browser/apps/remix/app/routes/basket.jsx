import { useFetcher, useLoaderData } from "@remix-run/react";
import { empty, itemsOf } from "../shop.js";

export const meta = ({ data }) => [{ title: `Lamps: basket (${data.items.length})` }];

export const loader = () => ({ items: [...itemsOf()] });

export function action() {
  empty();
  return { isEmpty: true };
}

export default function Basket() {
  const { items } = useLoaderData();
  const fetcher = useFetcher();
  return (
    <>
      <h1>Basket</h1>
      <ol>{items.map((item, index) => <li key={index}>{item}</li>)}</ol>
      <fetcher.Form method="post"><button id="empty">Empty</button></fetcher.Form>
      <p>{fetcher.data?.isEmpty ? "Emptied" : ""}</p>
    </>
  );
}
