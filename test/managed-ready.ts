import { managedDriver } from "../src/eco-managed-driver.ts";
import { AegisError } from "../src/errors.ts";
import { fakeManaged } from "./managed-fake.ts";
import { install } from "./policy-plans.ts";

/** Asks, in a process with other rights than the test's, whether the managed runs of an operation are possible. */
const [, , operation = "install"] = process.argv;
try {
  await managedDriver(fakeManaged).ready(
    { ...install(), tool: fakeManaged.tool, operation },
    { stop() {}, alive() {} },
  );
  process.stdout.write("ready\n");
} catch (error) {
  if (!(error instanceof AegisError)) throw error;
  process.stdout.write(`${error.code}: ${error.message}\n`);
}
