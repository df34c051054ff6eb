import { afterAll, beforeAll, expect, test } from "bun:test";
import { chmodSync, chownSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { ALL } from "../src/cmd.ts";
import { completionScript } from "../src/cmd-completion.ts";
import { manualPage } from "../src/cmd-help-man.ts";
import { sharedObstacle } from "../src/host-shared.ts";
import { needs } from "./needs.ts";

const WRITTEN = {
  manual: await manualPage(ALL.load),
  bash: await completionScript("bash", ALL.load),
  zsh: await completionScript("zsh", ALL.load),
  fish: await completionScript("fish", ALL.load),
};
const FOREIGN = {
  empty: "",
  page: '.TH AEGIS 1 "" "another aegis" "User Commands"\n',
  late: `.TH AEGIS 1\n.SH NAME\nMade by: aegis help --man\n`,
};

/* Below a directory that only root can change, as /usr/local/share is. */
needs(process.geteuid?.() === 0, "root: a directory that only root can change").describe(
  "a shared file",
  () => {
    let base: string;
    beforeAll(() => {
      base = mkdtempSync("/var/lib/aegis-shared-");
      chmodSync(base, 0o755);
      mkdirSync(join(base, "own"));
      mkdirSync(join(base, "own/taken"));
      mkdirSync(join(base, "foreign"));
      chownSync(join(base, "foreign"), 1, 1);
      mkdirSync(join(base, "group"));
      chmodSync(join(base, "group"), 0o775);
      symlinkSync(join(base, "own"), join(base, "link"));
      symlinkSync(join(base, "foreign/not-there"), join(base, "nowhere"));
      symlinkSync(join(base, "own"), join(base, "foreign/link"));
      writeFileSync(join(base, "file"), "");
      for (const [name, text] of Object.entries(WRITTEN)) writeFileSync(join(base, "own", name), text);
      for (const [name, text] of Object.entries(FOREIGN)) writeFileSync(join(base, "own", name), text);
      symlinkSync("/etc/passwd", join(base, "own/passwd"));
    });
    afterAll(() => rmSync(base, { recursive: true }));

    const REFUSED: [what: string, path: string, says: string][] = [
      ["that is a directory", "own/taken", "own/taken is a directory"],
      ["below a file", "file/below/aegis", "file is not a directory"],
      ["in another user's directory", "foreign/aegis", "foreign does not belong to root"],
      ["in a directory to be made in another user's", "foreign/a/b/aegis", "foreign does not belong to root"],
      ["behind another user's link", "foreign/link/written", "foreign/link is a symbolic link"],
      ["in a group's directory", "group/aegis", "group can be written by others than root"],
      ["behind a link", "link/aegis", "link is a symbolic link"],
      ["behind a link that leads nowhere", "nowhere/completions/aegis", "nowhere is a symbolic link"],
    ];
    for (const [what, path, says] of REFUSED) {
      test(what, () => expect(sharedObstacle(join(base, path))).toBe(join(base, says)));
    }
    for (const name of [...Object.keys(FOREIGN), "passwd"]) {
      const path = join("own", name);
      test(`an administrator's own: ${path}`, () =>
        expect(sharedObstacle(join(base, path))).toBe(`${join(base, path)} is not one that Aegis wrote`));
    }
    for (const path of ["own/aegis", ...Object.keys(WRITTEN).map((name) => `own/${name}`), "own/a/b/aegis"]) {
      test(`of root alone: ${path}`, () => expect(sharedObstacle(join(base, path))).toBeNull());
    }
  },
);
