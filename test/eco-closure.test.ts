import { expect, test } from "bun:test";
import { inParallel } from "../src/eco-closure.ts";

async function turns(count: number): Promise<void> {
  for (let i = 0; i < count; i++) await null;
}

/** What is begun and ended, in order, when `items` are made two at once; those that are odd take longer. */
async function events(items: readonly number[], failing: number | null = null) {
  const told: string[] = [];
  const made = inParallel(items, 2, async (item) => {
    told.push(`+${item}`);
    await turns(item % 2 === 0 ? 1 : 20);
    if (item === failing) throw new Error(`no ${item}`);
    told.push(`-${item}`);
    return item * 10;
  });
  const results = await made.catch((error: unknown) => String(error));
  // Whatever would still be begun has its chance.
  await turns(100);
  return { results, told };
}

test("results come in the order of the items, whichever is done first", async () => {
  const { results } = await events([1, 2, 3, 4, 5]);
  expect(results).toEqual([10, 20, 30, 40, 50]);
});

test("one that is done makes room for the next: none waits for its neighbours", async () => {
  const { told } = await events([1, 2, 4]);
  expect(told).toEqual(["+1", "+2", "-2", "+4", "-4", "-1"]);
});

test("after a failure none is begun; what has begun ends", async () => {
  const { results, told } = await events([1, 2, 4, 6], 2);
  expect(results).toBe("Error: no 2");
  expect(told).toEqual(["+1", "+2", "-1"]);
});

test.each([[[]], [[7]]])("%j", async (items) => {
  expect((await events(items)).results).toEqual(items.map((item) => item * 10));
});
