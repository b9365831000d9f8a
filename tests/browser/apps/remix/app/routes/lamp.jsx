import { Await, Form, redirect, useLoaderData } from "@remix-run/react";
import { Suspense, useEffect } from "react";
import { LAMPS, addItem, reviewsOf } from "../shop.js";

export const meta = ({ data }) => [{ title: `Lamps: ${data?.lamp.name ?? "none"}` }];

export function loader({ params }) {
  const lamp = LAMPS.find(({ id }) => id === params.id);
  if (!lamp) throw new Response("No such lamp", { status: 404 });
  return { lamp, reviews: reviewsOf(lamp.id) };
}

export async function action({ request }) {
  const form = await request.formData();
  addItem(`${form.get("name")} with ${form.get("note").size} bytes of notes`);
  // As many applications do, in full.
  return redirect(new URL("/basket", request.url).href);
}

export default function Lamp() {
  const { lamp, reviews } = useLoaderData();
  useEffect(() => {
    fetch(`/shown/${lamp.id}`, { method: "POST" });
  }, [lamp.id, reviews]);
  return (
    <>
      <h1>{lamp.name}</h1>
      <Suspense key={lamp.id} fallback={<p id="waiting">Reviews are on their way</p>}>
        <Await resolve={reviews}>
          {(all) => <ul id="reviews">{all.map((text) => <li key={text}>{text}</li>)}</ul>}
        </Await>
      </Suspense>
      <Form method="post" encType="multipart/form-data">
        <input type="hidden" name="name" value={lamp.name} />
        <input type="file" name="note" />
        <button id="buy">Buy</button>
      </Form>
    </>
  );
}
