import fc from "fast-check";
import type { WrapperName } from "../src/aliases.ts";
import { PROGRAMS } from "../src/wrapper-table.ts";

/** Every word that a program's table knows, and some that it doesn't. */
function vocabulary(name: WrapperName): string[] {
  const { flags, valued, alone, verbs } = PROGRAMS[name];
  const options = Object.values(verbs).flatMap((verb) => ("options" in verb ? verb.options : []));
  const known = [...flags, ...valued, ...alone, ...options, ...Object.keys(verbs)].flatMap((label) =>
    label.split(" "),
  );
  const odd = [
    "hello-x",
    "no",
    "2",
    "--",
    "-",
    "-qqs",
    "-sy",
    "-oA::B=c",
    "--opt=install",
    "--help",
    "toString",
    "",
  ];
  return [...new Set([...known, ...odd])];
}

/** Calls of a program, made of the words of its table and of `targets`; half have a verb at one of the usual places. */
export function callsOf(name: WrapperName, targets: readonly string[] = ["hello-x"]): fc.Arbitrary<string[]> {
  const word = fc.constantFrom(...vocabulary(name), ...targets, ...targets, ...targets);
  const verb = fc.constantFrom(...Object.keys(PROGRAMS[name].verbs)).map((label) => label.split(" "));
  const option = fc.constantFrom(...PROGRAMS[name].flags, "-q");
  return fc.oneof(
    fc.array(fc.oneof({ arbitrary: word, weight: 4 }, fc.string({ maxLength: 8 })), { maxLength: 5 }),
    fc
      .tuple(fc.array(option, { maxLength: 2 }), verb, fc.array(fc.oneof(option, word), { maxLength: 3 }))
      .map((parts) => parts.flat()),
  );
}
