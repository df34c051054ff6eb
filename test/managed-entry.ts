import { processIo } from "../src/cmd-io.ts";
import { superviseBuild } from "../src/eco-build.ts";
import { runConfined } from "../src/eco-confined.ts";
import { npmManaged } from "../src/npm-managed.ts";
import { fakeManaged, fakeStore } from "./managed-fake.ts";

/*
 * The doors of Aegis that a managed run goes through, as one executable for tests: with the fake tools beside npm.
 */

const [, , , door, argument = ""] = process.argv;
const load = (tool: string) =>
  Promise.resolve(tool === "npm" ? npmManaged : tool === fakeStore.tool ? fakeStore : fakeManaged);
if (door === "--build") process.exit(await superviseBuild(argument, load));
await runConfined(argument, processIo(false).readStdin);
