import type { Block } from "./cmd-help-text.ts";
import { WRAPPER_NAMES, type WrapperName } from "./eco-names.ts";
import { PROGRAMS } from "./wrap-table.ts";

type Verb = (typeof PROGRAMS)[WrapperName]["verbs"][string];

/** What the wrappers do, from the table that they judge by. */
export function wrappersText(): readonly Block[] {
  return [
    `\`sudo aegis daemon install --wrappers\` also links ${WRAPPER_NAMES.map((name) => `\`${name}\``).join(", ")} (those that are on the host) in /usr/local/bin to Aegis, for people and agents who type from habit:`,
    {
      lines: [
        "agent$ apt-get install -y nginx   # planned: exit 4 (or 3 or 5) as policy says",
        "agent$ apt list --upgradable      # only looks: becomes the real apt",
        "agent$ npm run build              # neither: refused with 126",
      ],
    },
    "A call that is planned writes a plan and shows the next command. One that only looks becomes the real program, with its words, environment, terminal and exit status.",
    "A verb that only looks must be the first word, with known options behind it (`apt list -qq`, not `apt -qq list`): package managers let an option in front swallow the verb. Whatever is not listed is refused, unknown options included, and so is what this version can't plan yet. The wrappers are a guard rail, not a boundary: `/usr/bin/apt` goes around them, and that is the way for a person who must; so do `python3 -m pip` and a PATH with another directory in front.",
    "`docker run` pulls what it doesn't have, and `npm run`, `go build` and `cargo build` fetch or run code that nobody has judged, so they are refused: leave the wrappers off where people build software. Scripts and services that call these names meet the wrappers too; maintainer scripts, apt's own timers (by a drop-in) and Aegis itself don't. What an administrator has put into /usr/local is never replaced or hidden; install names it. `dpkg` has no wrapper, since every maintainer script calls it. `aegis daemon uninstall` removes the wrappers.",
    ...groups().flatMap(([names, name]): Block[] => [`\`${names.join("`, `")}\``, { terms: verbsOf(name) }]),
  ];
}

/** Names that share a table, with one of them. */
function groups(): [string[], WrapperName][] {
  const out: [string[], WrapperName][] = [];
  for (const name of WRAPPER_NAMES) {
    const same = out.find(([, other]) => PROGRAMS[other] === PROGRAMS[name]);
    if (same === undefined) out.push([[name], name]);
    else same[0].push(name);
  }
  return out;
}

function verbsOf(name: WrapperName): [string, string][] {
  const { verbs, environment = {} } = PROGRAMS[name];
  const kinds: [string, string[]][] = [
    ["planned", []],
    ["let through", []],
  ];
  const refused = new Map<string, string[]>();
  for (const [verb, what] of Object.entries(verbs)) sort(verb, what, kinds, refused);
  const set = Object.entries(environment).map(([variable, value]) => `${variable}=${value}`);
  return [
    ...kinds
      .filter(([, words]) => words.length > 0)
      .map(([kind, words]): [string, string] => [kind, words.join(", ")]),
    ...[...refused].map(([why, words]): [string, string] => ["refused", `${words.join(", ")}: ${why}`]),
    ...(set.length === 0 ? [] : ([["set for it", set.join(" ")]] as [string, string][])),
  ];
}

function sort(verb: string, what: Verb, kinds: [string, string[]][], refused: Map<string, string[]>): void {
  if ("refuse" in what) refused.set(what.refuse, [...(refused.get(what.refuse) ?? []), verb]);
  else kinds["plan" in what ? 0 : 1]?.[1].push(verb);
}
