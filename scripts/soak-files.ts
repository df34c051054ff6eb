import { spawnSync } from "node:child_process";
import { readdirSync, statSync } from "node:fs";
import { messageOf } from "../src/errors.ts";
import { callExecutor } from "../src/front-client.ts";
import { RawClient } from "../test/varlink-kit.ts";
import type { Soak } from "./soak-host.ts";
import { cpuTicks } from "./soak-measure.ts";

/*
 * A front that runs out of file descriptors while serving. This script lowers its limit at run time, since the front refuses
 * to start with too few.
 */

export interface FewFiles {
  connections: number;
  /** Processor time of the front in the second while nobody could be accepted, in percent of one processor. */
  cpuPercent: number;
  /** Violated expectations. */
  problems: string[];
}

const SPARE = 4;
const ENOUGH = 1024;
const CONNECTIONS = 60;
/** USER_HZ: ticks of a second (time(7)). */
const TICKS = 100;

export async function withFewFiles(soak: Soak): Promise<FewFiles> {
  const front = soak.frontPid();
  const open = readdirSync(`/proc/${front}/fd`).length;
  const { uid, gid } = statSync(`/proc/${front}`);
  // As its own user: root in a container may not change the limits of other users' processes.
  const limit = (files: number) => {
    const { stderr } = spawnSync("prlimit", [`--pid=${front}`, `--nofile=${files}:`], {
      uid,
      gid,
      encoding: "utf8",
    });
    if (stderr !== "") problems.push(stderr);
  };
  const problems: string[] = [];
  limit(open + SPARE);
  const connections = Array.from({ length: CONNECTIONS }, () => new RawClient(soak.socket));
  await Bun.sleep(500);
  const before = cpuTicks(front);
  await Bun.sleep(1000);
  const cpuPercent = ((cpuTicks(front) - before) / TICKS) * 100;
  limit(ENOUGH);
  for (const { socket } of connections) socket.destroy();
  await answered(soak).catch((error: unknown) => problems.push(`not served afterwards: ${messageOf(error)}`));
  if (soak.frontPid() !== front) problems.push("the front died");
  return { connections: CONNECTIONS, cpuPercent, problems };
}

/** Whether a new client is served; the front may still be busy with earlier ones. */
async function answered({ socket }: Soak): Promise<void> {
  for (let n = 1; ; n++) {
    try {
      await callExecutor(socket, "Status", {}, { silenceMs: 5000 });
      return;
    } catch (error) {
      if (n >= 20) throw error;
      await Bun.sleep(200);
    }
  }
}
