import { describe, expect, test } from "bun:test";
import { fail, findingLines, ok } from "../src/finding.ts";
import { fit } from "../src/terminal.ts";

const PIPE = { interactive: false, colour: false, width: 80 };
const TERMINAL = { interactive: true, colour: false, width: 50 };
const COMMAND = "chown root:root /var/lib/aegis/runs && chmod 00700 /var/lib/aegis/runs";
const LONG = fail(
  "directories",
  "not whose or how they should be: /var/lib/aegis/runs, /var/lib/aegis/spent",
  `Look at it: ls -ld /var/lib/aegis/runs; then, as root: ${COMMAND}`,
);

describe("findings", () => {
  test("to a pipe: one line each, of any length", () =>
    expect(findingLines([ok("x", "fine"), LONG], PIPE)).toBe(
      [
        "✓ x            fine",
        `✗ directories  ${LONG.message}`,
        `               ${LONG.fix}`,
        "",
        "1 failure, 0 warnings",
      ].join("\n"),
    ));

  test("on a terminal: wrapped, except commands", () =>
    expect(findingLines([ok("x", "fine"), LONG], TERMINAL)).toBe(
      [
        "✓ x            fine",
        "✗ directories  not whose or how they should be:",
        "               /var/lib/aegis/runs,",
        "               /var/lib/aegis/spent",
        "               Look at it:",
        "               ls -ld /var/lib/aegis/runs; then,",
        "               as root:",
        `               ${COMMAND}`,
        "",
        "1 failure, 0 warnings",
      ].join("\n"),
    ));

  test("colour doesn't count towards the width", () =>
    expect(findingLines([LONG], { ...TERMINAL, colour: true }).replace(/\u001b\[\d+m/g, "")).toBe(
      findingLines([LONG], TERMINAL),
    ));

  test("untrusted text never begins a line", () => {
    const evil = fail("x", `a ${"b ".repeat(40)}\n✓ y  fine`, "");
    for (const line of findingLines([evil], TERMINAL).split("\n").slice(1, -2))
      expect(line).toStartWith("     ");
  });
});

describe("fit doesn't break commands", () => {
  const COMMANDS: [text: string, whole: string][] = [
    [
      "Type as root: mkdir -p /a && printf '[x]; y\\n' >/a/b && systemctl daemon-reload",
      "mkdir -p /a && printf '[x]; y\\n' >/a/b && systemctl daemon-reload",
    ],
    [
      "See it: aegis audit show --system --kind unmanaged_change",
      "aegis audit show --system --kind unmanaged_change",
    ],
    ["Start it: sudo systemctl start aegisd.service, or by hand", "sudo systemctl start aegisd.service,"],
  ];
  for (const [text, whole] of COMMANDS)
    test(whole, () =>
      expect(fit({ ...TERMINAL, width: 40 }, text, "  ").map((line) => line.trim())).toContain(whole),
    );
});
