import { spawn } from "node:child_process";

export interface OnTerminal {
  /** All output of the terminal. */
  output: string;
  /** Exit status of the command, 128 + n when killed by signal n. */
  status: number;
  /** The terminal's settings (stty(1), -a) before and after the command. */
  before: string;
  after: string;
}

/**
 * Runs a shell command on a new terminal, by script(1). Each answer is typed once its question is shown: what is typed before
 * a program has switched the echo off would be shown by the kernel.
 */
export function onTerminal(
  command: string,
  answers: readonly (readonly [question: string, keys: string | Uint8Array])[],
): Promise<OnTerminal> {
  const all = `stty -a; echo @begin; (${command}); echo "@status $?"; stty -a; echo @end`;
  const child = spawn("script", ["-qec", all, "/dev/null"], { stdio: ["pipe", "pipe", "inherit"] });
  let text = "";
  let seen = 0;
  const left = [...answers];
  // A character may be split between two chunks.
  child.stdout.setEncoding("utf8").on("data", (chunk: string) => {
    text += chunk;
    const [next] = left;
    if (next === undefined) return;
    const at = text.indexOf(next[0], seen);
    if (at < 0) return;
    seen = at + next[0].length;
    left.shift();
    child.stdin.write(next[1]);
  });
  return new Promise((resolve, reject) => {
    child.once("error", reject);
    child.once("close", () => {
      const [, before, output, status, after] =
        /^(.*?)@begin\r\n(.*)@status (\d+)\r\n(.*?)@end/s.exec(text) ?? [];
      if (before === undefined || output === undefined || after === undefined) {
        reject(new Error(`the terminal showed: ${text}`));
        return;
      }
      resolve({ output, status: Number(status), before, after });
    });
  });
}
