import { spawnSync } from "node:child_process";
import { AegisError } from "./errors.ts";
import { resolveProgram, SYSTEM_PATH } from "./subprocess.ts";

/** What a .deb says of itself (deb-control(5)). */
export interface Control {
  name: string;
  version: string;
  architecture: string;
  essential: boolean;
}

/**
 * Reads a .deb's own control file with `dpkg-deb --field`.
 * @throws AegisError `hook_refused` when dpkg-deb can't read it, `unavailable` where there is no dpkg-deb
 */
export function readControl(file: string): Control {
  const program = resolveProgram("dpkg-deb");
  if (program === null) throw new AegisError("unavailable", "dpkg-deb is not installed");
  const { status, stdout } = spawnSync(program, ["--field", file], {
    env: { PATH: SYSTEM_PATH.join(":"), LC_ALL: "C.UTF-8" },
    timeout: 60_000,
    maxBuffer: 1024 * 1024,
    encoding: "utf8",
  });
  if (status !== 0) throw new AegisError("hook_refused", `dpkg-deb can't read ${file}`);
  const field = (name: string) => new RegExp(`^${name}:[ \\t]*(.*?)[ \\t]*$`, "mi").exec(stdout)?.[1] ?? "";
  return {
    name: field("Package"),
    version: field("Version"),
    architecture: field("Architecture"),
    essential: field("Essential") === "yes",
  };
}
