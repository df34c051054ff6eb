import fc from "fast-check";
import type { WrapperName } from "../src/eco-names.ts";
import { PROGRAMS } from "../src/wrap-table.ts";

/** Every word in a program's table, and some that are not in it. */
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

/**
 * Calls of a program, made of the words of its table and of `targets`: random words, a verb at one of the usual places, and
 * two verbs in a row after a short option, which might take the first as its value.
 */
export function callsOf(name: WrapperName, targets: readonly string[] = ["hello-x"]): fc.Arbitrary<string[]> {
  const { flags, verbs } = PROGRAMS[name];
  const target = fc.constantFrom(...targets);
  const word = fc.oneof(fc.constantFrom(...vocabulary(name)), target);
  const verb = fc.constantFrom(...Object.keys(verbs)).map((label) => label.split(" "));
  const option = fc.constantFrom(...flags, "-q");
  const short = fc.constantFrom(...flags.filter((flag) => /^-\w$/.test(flag)), "-q", "-qq");
  const flat = (parts: readonly (string | string[])[]) => parts.flat();
  return fc.oneof(
    fc.array(fc.oneof({ arbitrary: word, weight: 4 }, fc.string({ maxLength: 8 })), { maxLength: 5 }),
    fc
      .tuple(fc.array(option, { maxLength: 2 }), verb, fc.array(fc.oneof(option, word), { maxLength: 3 }))
      .map(flat),
    fc.tuple(short, verb, verb, target).map(flat),
  );
}
