import { sha256Hex } from "./canonical.ts";
import { badArchive } from "./eco-archive.ts";
import { readZip } from "./eco-zip.ts";
import type { Wheel } from "./pip-index.ts";
import { infoDirectory } from "./pip-wheel.ts";

/*
 * Where pip puts the files of a wheel below `--target`, and the commands that it writes for entry points.
 * https://packaging.python.org/en/latest/specifications/binary-distribution-format/#installing-a-wheel-distribution-1-0-py32-none-any-whl
 */

export interface WheelLayout {
  /** Path below the directory → SHA-256 of the file. */
  files: Map<string, string>;
  info: string;
  /** The text of `entry_points.txt`. */
  entryPoints: string;
}

/** The interpreter that pip writes into scripts: the one that runs it. */
const INTERPRETER = /^#!\/usr\/(?:local\/)?bin\/python3(?:\.\d+)?$/;

/**
 * Lays out a wheel as pip does with `--target`, whose scheme is that of a home directory.
 * @throws AegisError `refused`
 */
export function layOut(bytes: Uint8Array, wheel: Pick<Wheel, "name" | "version">): WheelLayout {
  const archive = readZip(bytes);
  const info = infoDirectory(archive, wheel);
  const data = `${info.replace(/\.dist-info$/, "")}.data/`;
  const files = new Map<string, string>();
  let entryPointsText = "";
  for (const { path, data: content } of archive) {
    if (path === `${info}/RECORD`) continue;
    if (path === `${info}/entry_points.txt`) entryPointsText = Buffer.from(content).toString("utf8");
    const [place, body] = path.startsWith(data)
      ? placeOfData(path.slice(data.length), content)
      : [path, content];
    files.set(place, sha256Hex(body));
  }
  return { files, info, entryPoints: entryPointsText };
}

function placeOfData(path: string, content: Uint8Array): [string, Uint8Array] {
  const slash = path.indexOf("/");
  const [scheme, rest] = [path.slice(0, slash), path.slice(slash + 1)];
  switch (scheme) {
    case "purelib":
    case "platlib":
    case "data":
      return [rest, content];
    case "scripts":
      return [`bin/${rest}`, withInterpreter(content)];
    default:
      throw badArchive(`it puts files into ${JSON.stringify(path)}, which isn't supported`);
  }
}

/** pip puts its own interpreter in place of `#!python` (https://peps.python.org/pep-0427/#recommended-installer-features). */
function withInterpreter(content: Uint8Array): Uint8Array {
  const text = Buffer.from(content).toString("latin1");
  const isMarked = /^#!python[^\n]*\n/.test(text);
  return isMarked
    ? Buffer.from(text.replace(/^#!python[^\n]*\n/, "#!/usr/bin/python3\n"), "latin1")
    : content;
}

/** Commands of `[console_scripts]` and `[gui_scripts]`. https://packaging.python.org/en/latest/specifications/entry-points/ */
export function entryPoints(text: string): { name: string; module: string; attribute: string }[] {
  let section = "";
  return text.split(/\r?\n/).flatMap((line) => {
    const header = /^\s*\[([^\]]+)\]\s*$/.exec(line)?.[1];
    if (header !== undefined) section = header.trim();
    const [, name, module, attribute] =
      /^\s*([^=#;[\s][^=]*?)\s*=\s*([\w.]+)\s*:\s*([\w.]+)\s*(?:\[.*\])?\s*$/.exec(line) ?? [];
    const isCommand = header === undefined && /^(?:console|gui)_scripts$/.test(section);
    return isCommand && name !== undefined && module !== undefined && attribute !== undefined
      ? [{ name, module, attribute }]
      : [];
  });
}

/** Whether a text is the command that pip writes for an entry point, in the forms of pip 20 to 26. */
export function isShim(text: string, module: string, attribute: string): boolean {
  const [interpreter = "", ...lines] = text.replace(/\n$/, "").split("\n");
  const first = attribute.split(".")[0] ?? "";
  const body = (imports: readonly string[], name: string) => [
    ...imports,
    `from ${module} import ${first}`,
    "if __name__ == '__main__':",
    `    sys.argv[0] = ${name}`,
    `    sys.exit(${attribute}())`,
  ];
  const known = [
    [
      "# -*- coding: utf-8 -*-",
      ...body(["import re", "import sys"], "re.sub(r'(-script\\.pyw|\\.exe)?$', '', sys.argv[0])"),
    ],
    [
      "# -*- coding: utf-8 -*-",
      ...body(["import re", "import sys"], "re.sub(r'(-script\\.pyw?|\\.exe)?$', '', sys.argv[0])"),
    ],
    body(["import sys"], "sys.argv[0].removesuffix('.exe')"),
  ];
  return INTERPRETER.test(interpreter) && known.some((one) => one.join("\n") === lines.join("\n"));
}
