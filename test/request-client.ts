import { AegisError, messageOf } from "../src/errors.ts";
import {
  decideRequest,
  listRequests,
  readRequest,
  submitRequest,
  watchRequest,
  withdrawRequest,
} from "../src/front-requests.ts";

/*
 * A client of requests, with whatever uid it is started as: does what it reads from its standard input, one after the other, and
 * prints what came of each as a line of JSON.
 */

export interface Deed {
  do: "submit" | "decide" | "withdraw" | "read" | "list" | "watch";
  /** Default: the executor's. */
  socket?: string;
  given: object;
  /** Repeats while the executor is not there or breaks off, as a person would: at most so often. */
  again?: number;
}

export type Came = { done: unknown } | { code: string; message: string };

const DEEDS: Record<Deed["do"], (socket: string, given: never) => Promise<unknown>> = {
  submit: submitRequest,
  decide: decideRequest,
  withdraw: withdrawRequest,
  read: (socket, number: number) => readRequest(socket, number),
  list: listRequests,
  watch: watchRequest,
};

async function came({ do: what, socket = "/run/aegis/aegisd.sock", given, again = 0 }: Deed): Promise<Came> {
  for (let left = again; ; left--) {
    try {
      return { done: await DEEDS[what](socket, given as never) };
    } catch (error) {
      const code = error instanceof AegisError ? error.code : "fault";
      const isGone = ["unavailable", "protocol", "timeout", "io", "busy"].includes(code);
      if (left <= 0 || !isGone) return { code, message: messageOf(error) };
      await Bun.sleep(50);
    }
  }
}

for (const deed of JSON.parse(await Bun.stdin.text()) as Deed[]) {
  process.stdout.write(`${JSON.stringify(await came(deed))}\n`);
}
process.exit(0);
