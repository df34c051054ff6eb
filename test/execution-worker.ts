import { readFileSync } from "node:fs";
import { contextOf, statePathsIn, submit } from "./execution-kit.ts";

/** An executor in a separate process, to be killed: `<directory> <file of a signed plan> <user of the tool>`. */
const [directory = "", file = "", user = "root"] = process.argv.slice(2);
const host = { store: `${directory}/store`, tool: `${directory}/fake-tool`, mode: () => {}, user };
const context = contextOf(host, statePathsIn(directory), directory);
await submit(JSON.parse(readFileSync(file, "utf8")), context);
