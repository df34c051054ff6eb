import { afterAll, beforeAll, expect, test } from "bun:test";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { ALL } from "../src/cmd.ts";
import { completionScript, type Shell } from "../src/cmd-completion.ts";
import { needs } from "./needs.ts";
import { temporaryDirectory } from "./varlink-kit.ts";

/*
 * Completion as the shells do it: bash by the function that Tab calls, zsh on a terminal of zpty, fish by `complete -C`.
 */

const { path: home, remove } = temporaryDirectory();
const FILES = join(home, "files");
beforeAll(async () => {
  mkdirSync(join(FILES, "sub"), { recursive: true });
  for (const name of ["plan.json", "la.txt"]) writeFileSync(join(FILES, name), "");
  mkdirSync(join(home, "fpath"));
  writeFileSync(join(home, "apt-cache"), APT_CACHE, { mode: 0o755 });
  writeFileSync(join(home, "systemctl"), SYSTEMCTL, { mode: 0o755 });
  const scriptOf = async (shell: Shell) =>
    (await completionScript(shell, ALL.load)).replaceAll(/\/usr\/bin\/(apt-cache|systemctl)/g, (_, name) =>
      join(home, name),
    );
  writeFileSync(join(home, "aegis.bash"), await scriptOf("bash"));
  writeFileSync(join(home, "fpath/_aegis"), await scriptOf("zsh"));
  writeFileSync(join(home, "aegis.fish"), await scriptOf("fish"));
});
afterAll(remove);

/** Names that apt takes from a repository's index (apt 2.6); `zz-option` where the prefix could be read as an option. */
const HOSTILE = ["zz$(id)", "zz`id`", "zz;id", "zz two", "zz\u001b[31m", "zz'", "-oDir::Log=x"];
const APT_CACHE = `#!/bin/sh
case "$*" in '--no-generate pkgnames -- '*) ;; *) echo zz-option ;; esac
cat <<'END'
${["zz-good", "zz+1.0", ...HOSTILE].join("\n")}
END
`;

/** `systemctl list-units`, with a name that would have to be quoted. */
const SYSTEMCTL = `#!/bin/sh
cat <<'END'
web.service              loaded active running   A web server; $(id)
web@a\\x2db.service      loaded active running   web@evil.service
getty@tty1.service       loaded active running   -
web.socket               loaded active listening /run/web.sock
END
`;

/** Words that must be offered, and some that must not. `FILE` stands for names of files. */
type Row = [line: string, offered: string[], not?: string[]];
const FILE = "plan.json";

const CASES: Row[] = [
  ["", ["plan", "sign", "daemon", "audit", "help", "completion"], ["keygen", FILE, "constructor"]],
  ["si", ["sign"], ["plan"]],
  ["xyz", [], ["plan"]],
  ["xyz ", [], ["plan", FILE]],
  ["constructor ", [], ["plan", FILE]],
  ["sign k", ["keygen"], ["verify"]],
  ["daemon ", ["install", "uninstall", "status"], [FILE, "plan"]],
  ["audit ", ["path", "show", "verify", "checkpoint", "prove"], [FILE]],
  ["daemon install --d", ["--dry-run", "--downgrade"], ["--wrappers", "--key"]],
  ["daemon install ", [], [FILE, "install", "apt"]],
  ["daemon --ex", ["--executor"], ["--dry-run"]],
  [
    "sign keygen --",
    ["--role", "--name", "--out", "--break-glass", "--encrypt", "--json", "--help"],
    ["--snapshot-id"],
  ],
  ["sign --snap", ["--snapshot-id"], ["--skill"]],
  ["sign --out ", [FILE], ["keygen", "--plan"]],
  ["sign --out=p", [FILE]],
  ["audit show --kind=plan_c", ["plan_created"], ["plan_signed", FILE]],
  ["sign approve --reason ", [], [FILE]],
  ["sign approve --plan p", [FILE], ["--plan"]],
  ["plan ", ["apt", "npm", "docker", "podman", "container", "nuget", "vscode", "rollback", "show"], [FILE]],
  ["plan a", ["apt"], ["npm"]],
  ["plan apt ", ["install", "remove", "purge", "repair", "rollback", "full-upgrade"], ["dist-upgrade", FILE]],
  ["plan npm ", ["install"], ["remove"]],
  ["plan --out x apt ", ["install"], ["apt", "npm"]],
  ["plan npm ", ["install", "rollback"], ["update", FILE]],
  ["plan cargo ", ["install", "rollback"], ["update", FILE]],
  ["plan rollback ", [], ["install", FILE]],
  ["plan apt install zz", ["zz-good", "zz+1.0"], [...HOSTILE, "zz-option", "apt", FILE]],
  ["plan apt install -- -o", [], [...HOSTILE, "zz-option"]],
  ["plan services ", ["restart"], ["install", FILE]],
  [
    "plan services restart web",
    ["web.service", "web.socket"],
    ["web@evil.service", "getty@tty1.service", FILE],
  ],
  ["plan services restart getty@", ["getty@tty1.service"], ["web.service"]],
  ["plan show p", [FILE], ["apt"]],
  ["policy lat", ["latest"], ["rules"]],
  ["policy ru", ["rules"], ["report"]],
  ["policy pl", [FILE], ["rules"]],
  ["apply p", [FILE], ["latest"]],
  ["apply lat", [], ["latest"]],
  ["audit show --kind plan_", ["plan_created", "plan_signed"], ["checkpoint", FILE]],
  ["help s", ["sign", "snapshots"], ["plan"]],
  ["help sign ", ["keygen", "approve", "verify"], [FILE, "snapshots"]],
  ["help snapshots ", [], ["keygen", FILE]],
  ["completion ", ["bash", "zsh", "fish"], [FILE]],
  ["completion bash ", [], ["zsh", FILE]],
];

/** A script for each shell, which writes what is offered for each of its arguments, and a line of `=` behind each. */
const SCRIPTS = {
  // Readline's own words: it breaks at = and : too. For file names it is told to do what it does without a function.
  bash: `source $HOME/aegis.bash
compopt() { compgen -f -- "$cur"; }
for line; do
  read -ra COMP_WORDS <<<"aegis \${line//=/ = }"
  [[ $line != *' ' && -n $line ]] || COMP_WORDS+=("")
  COMP_CWORD=$((\${#COMP_WORDS[@]} - 1))
  _aegis
  printf '%s\\n' "\${COMPREPLY[@]}" =
done`,
  fish: `source $HOME/aegis.fish
for line in $argv
  complete -C "aegis $line" | string split -f 1 \\t
  echo =
end`,
  // On a terminal of zpty(1), 1000 lines and columns large, since zsh completes nowhere else. What is offered passes through compadd.
  zsh: `zmodload zsh/zpty
: >$HOME/out
zpty -b z zsh -f -i
{
  zpty -w z "PS1=; stty rows 1000 cols 1000 -echo; unsetopt beep; LISTMAX=0; KEYTIMEOUT=1; fpath=(\\$HOME/fpath \\$fpath); autoload -Uz compinit; compinit -u -D; zstyle ':completion:*' verbose no"
  zpty -w z 'compadd() { builtin compadd -O hits "$@"; [[ -n \${(M)@:#-[OAD]} ]] || print -l -- "offer:"\${^hits} >>$HOME/out; builtin compadd "$@" }'
  zpty -w z 'finish() { print "offer:=" >>$HOME/out; BUFFER= }; zle -N finish; bindkey "^X" finish; bindkey "^I" complete-word; print re""ady'
  zpty -r z said '*ready*'
  for ((n = 1; n <= $#; n++)); do
    zpty -w -n z "aegis $argv[n]"$'\\t\\x18'
    for i in {1..500}; do (($(grep -cx offer:= $HOME/out) < n)) || break; sleep 0.02; done
  done
} always { zpty -d z }
sed -n 's/^offer://p' $HOME/out`,
} as const;

/** What a shell offers for each line, in a directory with files. */
async function offered(shell: keyof typeof SCRIPTS): Promise<Map<string, string[]>> {
  const lines = CASES.map(([line]) => line);
  const quiet = { bash: ["--norc"], fish: ["--no-config"], zsh: ["-f"] }[shell];
  const child = Bun.spawn(
    [shell, ...quiet, "-c", SCRIPTS[shell], ...(shell === "fish" ? [] : [shell]), ...lines],
    {
      cwd: FILES,
      env: { PATH: "/usr/bin:/bin", HOME: home, TERM: "xterm", LC_ALL: "C.UTF-8" },
      stdout: "pipe",
      stderr: "pipe",
    },
  );
  const [stdout, stderr] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
    child.exited,
  ]);
  expect(stderr).toBe("");
  const answers = stdout.split(/^=\n/m).map((answer) =>
    answer
      .split("\n")
      // Of a directory fish has the slash; of a flag's value it repeats the flag.
      .map((word) => word.replace(/^--[a-z-]+=|[ /]+$/g, ""))
      .filter((word) => word !== ""),
  );
  expect(answers.length).toBe(lines.length + 1);
  return new Map(lines.map((line, i) => [line, answers[i] ?? []]));
}

for (const shell of ["bash", "zsh", "fish"] as const) {
  const here = needs(Bun.which(shell) !== null, `${shell} (cmd-completion.test.ts)`);
  here.describe(shell, () => {
    let answers = new Map<string, string[]>();
    beforeAll(async () => {
      answers = await offered(shell);
    }, 60_000);
    for (const [line, wanted, unwanted = []] of CASES) {
      test(JSON.stringify(line), () => {
        const words = answers.get(line) ?? [];
        expect(wanted.filter((word) => !words.includes(word))).toEqual([]);
        expect(words.filter((word) => unwanted.includes(word))).toEqual([]);
      });
    }
  });
}
