import { commandOf, type Handover, makeKeys, peopleOn } from "./handover-kit.ts";
import type { RootOf, SystemdHost } from "./systemd-container.ts";
import { bootSuite, install, mustExec } from "./systemd-kit.ts";
import type { Suite } from "./systemd-root.ts";

/*
 * The people of a hand-over on a real systemd, set up as an administrator does: accounts by useradd, the program by its own
 * installer, each key made by whoever it belongs to and enrolled by root.
 */

export interface People extends Handover {
  readonly host: SystemdHost;
}

/** Boots a container with Aegis running, and everybody's key trusted. */
export async function startPeople(suite: Suite, policy = "", rootOf?: RootOf): Promise<People> {
  const host = await bootSuite(suite, rootOf);
  try {
    return await setUpPeople(host, policy);
  } catch (error) {
    await host.stop();
    throw error;
  }
}

async function setUpPeople(host: SystemdHost, policy: string): Promise<People> {
  for (const who of ["agent", "ops"])
    await mustExec(host, ["useradd", "--create-home", "--shell", "/bin/bash", who]);
  await install(host);
  for (const who of ["agent", "alice", "bob", "ops"])
    await mustExec(host, ["usermod", "--append", "--groups", "aegis-admin", who]);
  for (const { public_path } of await makeKeys(host))
    await mustExec(host, commandOf("root", ["sign", "trust", "add", public_path]));
  host.write("/etc/aegis/policy.toml", policy);
  await install(host);
  return peopleOn(host);
}
