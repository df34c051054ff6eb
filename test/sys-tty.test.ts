import { describe, expect, test } from "bun:test";
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { onTerminal } from "./pty.ts";

const source = JSON.stringify(join(import.meta.dir, "../src/sys-tty.ts"));
const code = `const { openScreen } = await import(${source}); console.log("answer:" + (openScreen()?.ask("well? ") ?? null));`;
const hidden = `const { askHidden } = await import(${source}); console.log("answer:" + JSON.stringify(await askHidden("well? ")));`;

test("without a terminal there is no answer, whatever is on standard input", () => {
  for (const [asks, answer] of [
    [code, "answer:null\n"],
    [hidden, "answer:null\n"],
  ] as const) {
    const { stdout } = spawnSync("setsid", ["-w", process.execPath, "-e", asks], {
      input: "yes\n",
      encoding: "utf8",
    });
    expect(stdout).toBe(answer);
  }
});

test("asks on the terminal even if standard input and output are redirected", async () => {
  const { output } = await onTerminal(`'${process.execPath}' -e '${code}' </dev/null | cat`, [
    ["well? ", "a1b2c3d4\n"],
  ]);
  expect(output).toContain("answer:a1b2c3d4");
});

test("a session without a controlling terminal asks on standard input and error if both are terminals", async () => {
  // As with `su - alice -c`: setsid keeps the descriptors but detaches /dev/tty.
  const run = `setsid -w '${process.execPath}' -e '${code}'`;
  const plain = await onTerminal(run, [["well? ", "a1b2c3d4\n"]]);
  expect(plain.output).toContain("answer:a1b2c3d4");
  const twice = `${hidden} console.log("and:" + JSON.stringify(await askHidden("again? "))); process.exit();`;
  const { output, before, after } = await onTerminal(`setsid -w '${process.execPath}' -e '${twice}'`, [
    ["well? ", "hunter2\r"],
    ["again? ", "hunter3\r"],
  ]);
  expect(output).toContain('answer:"hunter2"');
  expect(output).toContain('and:"hunter3"');
  expect(output.match(/hunter/g)).toHaveLength(2);
  expect(after).toBe(before);
  for (const elsewhere of ["</dev/null", "2>/dev/null"]) {
    const deaf = await onTerminal(`${run} ${elsewhere}`, []);
    expect(deaf.output).toContain("answer:null");
  }
});

/** Keys pressed, and the resulting answer. */
test("input typed before the question is not an answer", async () => {
  const early = `process.stdout.write("soon "); await Bun.sleep(300); ${code}`;
  const { output } = await onTerminal(`${process.execPath} -e '${early}'`, [
    ["soon ", "a1b2c3d4\r"],
    ["well? ", "later\r"],
  ]);
  expect(output).toContain("answer:later");
});

const TYPED: [what: string, keys: string, answer: string | null][] = [
  ["spaces are kept", " two  words \r", " two  words "],
  ["backspace erases a character, not a byte", "caf\u00e9\u20ac\x7f\x7fe\r", "cafe"],
  ["backspace at the beginning does nothing", "\x7fab\r", "ab"],
  ["control-U clears the line", "wrong\x15right\r", "right"],
  ["control-D gives no answer", "abc\x04", null],
  ["invalid UTF-8 gives no answer", "\xff", null],
  ["an overlong line gives no answer", `${"x".repeat(1025)}\r`, null],
];

describe("a hidden answer", () => {
  const ask = `'${process.execPath}' -e '${hidden}'`;
  for (const [what, keys, answer] of TYPED) {
    test(what, async () => {
      const bytes = what.includes("UTF-8") ? Buffer.from([0xff, 13]) : keys;
      const { output } = await onTerminal(ask, [["well? ", bytes]]);
      expect(output).toContain(`answer:${JSON.stringify(answer)}`);
    });
  }

  test("is not shown, and the terminal is restored", async () => {
    const { output, before, after } = await onTerminal(`${ask} >/dev/null`, [["well? ", "hunter2\r"]]);
    expect(output).not.toContain("hunter2");
    expect(before).toContain(" echo ");
    expect(after).toBe(before);
  });
  test("control-C ends the process as SIGINT does, and the terminal is restored", async () => {
    const { output, status, before, after } = await onTerminal(ask, [["well? ", "hunt\x03"]]);
    expect(status).toBe(130);
    expect(output).not.toContain("answer");
    expect(after).toBe(before);
  });
  test("an overlong line leaves nothing for the next reader", async () => {
    const { output } = await onTerminal(`${ask}; read -r rest; echo "rest:$rest"`, [
      ["well? ", `${"x".repeat(1500)}secret\r`],
      ["answer:", "next\r"],
    ]);
    expect(output).toContain("rest:next");
    expect(output).not.toContain("secret");
  });
  test.each([
    ["TERM", 143],
    ["INT", 130],
    ["QUIT", 131],
  ])("so does a signal from elsewhere: SIG%s", async (signal, expected) => {
    // `sh` has the pid of the asking process: it execs it.
    const killed = `(sleep 1; kill -${signal} "$$") & ulimit -c 0; exec ${ask}`;
    const { output, status, before, after } = await onTerminal(
      `sh -c '${killed.replaceAll("'", "'\\''")}'`,
      [],
    );
    expect(status).toBe(expected);
    // The shell may print the command, which contains the word too.
    expect(output).not.toMatch(/^answer:/m);
    expect(after).toBe(before);
  });
});
