/*
 * Scans the text of a package's script for patterns that nobody writes by accident. A script that passes is not proved
 * harmless: policy asks a person about every lifecycle script anyway. Patterns are searched one after the other, never with
 * two unbounded gaps in one expression, so that a hostile script can't make the scan slow.
 */

const DOWNLOADER = "(?:curl|wget|aria2c|fetch|Invoke-WebRequest|iwr)";
const SHELL = "(?:sh|bash|dash|zsh|ksh|ash|busybox\\s+sh|pwsh|powershell|iex|Invoke-Expression)";
const INTERPRETER = "(?:node|nodejs|bun|deno|python[0-9.]*|perl|ruby|php)";
/** The start of a command: words that run another command, and a path. */
const BEGIN =
  "^[\\s({\"'`]*(?:(?:sudo|env|exec|nohup|command|time|xargs|then|do)(?:\\s+-\\S+|\\s+[A-Z_]+=\\S*)*\\s+)*(?:\\S*\\/)?";
const INLINE = "\\s+(?:-\\S+\\s+)*(?:-\\w*[ecp]\\b|--eval\\b|--print\\b|-(?:\\s|$))";

const DOWNLOADS = new RegExp(`(?<![\\w.-])${DOWNLOADER}\\s`, "i");
/** A stage of a pipeline that executes its input. */
const RUNS_INPUT = new RegExp(
  `${BEGIN}(?:${SHELL}(?![\\w.-])|${INTERPRETER}(?:${INLINE}|\\s*["'\`)}]*\\s*$))`,
  "i",
);
/** A command that runs a file or text. */
const RUNS = new RegExp(
  `${BEGIN}(?:${SHELL}\\s+\\S|eval\\s|source\\s|\\.\\s|${INTERPRETER}${INLINE}|chmod\\s+(?:-\\S+\\s+)*(?:[ugoa]*\\+[rw]*x|[0-7]*[1357][0-7]*)\\s)`,
  "i",
);
const RUNS_WORDS = new RegExp(`(?<![\\w.-])(?:${SHELL}|eval|source|${INTERPRETER})\\s|^\\s*\\.\\s`, "i");
const RUNNER = new RegExp(`^(?:\\S*/)?(?:${SHELL}|${INTERPRETER}|source|\\.)$`, "i");
const SUBSTITUTED_DOWNLOAD = new RegExp(`(?:\\$\\(|<\\(|\`)\\s*(?:sudo\\s+)?${DOWNLOADER}\\s`, "i");
/** The file that a download is written to. */
const OUTPUT_FILE = /(?:\s-[A-Za-z]*[oO]\s*|\s--output(?:-document)?[=\s]\s*|>\s*)["']?([^\s"';&|]+)/;

const INLINE_CODE = new RegExp(`(?<![\\w.-])${INTERPRETER}${INLINE}`, "i");
const USES_NETWORK =
  /https?:\/\/|['"](?:node:)?https?['"]|\bfetch\s*\(|\burlopen\b|\burllib|\brequests\.get\b|open-uri|\bLWP\b|\b(?:curl|wget)\s/i;
const RUNS_CODE =
  /\beval\s*\(|\bFunction\s*\(|\bexec(?:File)?(?:Sync)?\s*\(|\bspawn(?:Sync)?\s*\(|child_process|\brunIn\w{0,16}Context\b|\bsystem\s*\(/;

const DECODES =
  /\batob\b|\bunescape\s*\(|\bb64decode\b|\bfromhex\b|\bbase64\b|\bxxd\b|\bBuffer\s*\.\s*from\b/;
const SHELL_DECODES = /\bbase64\s+(?:-\w*[dD]|--decode)|\bxxd\s+-\w*r|\bopenssl\s+(?:enc|base64)\b/;
const LONG_BLOB = /[A-Za-z0-9+/=_-]{80}/;

const OBFUSCATED: readonly RegExp[] = [
  /\b(?:eval|Function|execSync|exec|runIn\w{0,16}Context|require)\s*\(\s*(?:\w{1,32}\.){0,3}(?:atob|unescape|decodeURIComponent|fromCharCode|b64decode|fromhex)\s*\(/,
  // a blob longer than any checksum (SHA-512 in hex is 128 characters)
  /[A-Za-z0-9+/=]{200}/,
  // characters written as numbers, and names that obfuscators generate
  /(?:\\x[0-9a-f]{2}){4}/i,
  /(?:\\u[0-9a-f]{4}){4}/i,
  /(?:\\[0-7]{3}){4}/,
  /fromCharCode\s*\((?:\s*(?:0x)?[0-9a-f]{1,6}\s*,){5}/i,
  /\b_0x[0-9a-f]{4,12}\b/i,
  // shell tricks that disguise a word: c''url, cu$@rl, ${IFS}
  /[a-z](?:''|"")[a-z]/,
  /[a-z]\$@[a-z]/,
  /\$\{?IFS\b/,
];

export interface ScriptScan {
  /** It downloads something and runs it. */
  downloadAndExecute: boolean;
  /** It hides what it does. */
  obfuscated: boolean;
}

/** Scans one script. Pure. */
export function scanScript(body: string): ScriptScan {
  // The shell joins continued lines.
  const text = body.replace(/\\\r?\n/g, " ");
  const commands = text.split(/&&|\|\||[;\n]/);
  return {
    downloadAndExecute:
      commands.some(pipesDownload) ||
      commands.some((command) => inOrder(command, RUNS_WORDS, SUBSTITUTED_DOWNLOAD)) ||
      runsAfterDownload(commands) ||
      inOrder(text, INLINE_CODE, USES_NETWORK, RUNS_CODE) ||
      inOrder(text, INLINE_CODE, RUNS_CODE, USES_NETWORK),
    obfuscated:
      OBFUSCATED.some((shape) => shape.test(text)) ||
      (LONG_BLOB.test(text) && (DECODES.test(text) || /\beval\b|\bFunction\s*\(/.test(text))) ||
      (RUNS_CODE.test(text) && inOrder(text, /\bBuffer\s*\.\s*from\s*\(/, /['"](?:base64|hex)['"]/)) ||
      commands.some(pipesDecoded) ||
      commands.some((command) => inOrder(command, /\b(?:eval|source)\s/, /\$\(|`/, SHELL_DECODES)),
  };
}

/** `curl … | sh`, also with tee, gunzip or others in between. */
function pipesDownload(command: string): boolean {
  const stages = command.split("|");
  const download = stages.findIndex((stage) => DOWNLOADS.test(stage));
  return download !== -1 && stages.slice(download + 1).some((stage) => RUNS_INPUT.test(stage));
}

/** `echo … | base64 -d | sh` */
function pipesDecoded(command: string): boolean {
  const stages = command.split("|");
  const decode = stages.findIndex((stage) => SHELL_DECODES.test(stage));
  return decode !== -1 && stages.slice(decode + 1).some((stage) => RUNS_INPUT.test(stage));
}

/** `curl … && sh …`, `wget …; chmod +x …`, `curl -o x …; node x` */
function runsAfterDownload(commands: readonly string[]): boolean {
  const files = new Set<string>();
  let downloaded = false;
  for (const command of commands) {
    if (downloaded && RUNS.test(command)) return true;
    const words = command.trim().split(/\s+/).map(bare);
    const [first = "", ...others] = words;
    if (files.has(first) || (RUNNER.test(first) && others.some((word) => files.has(word)))) return true;
    if (!DOWNLOADS.test(command)) continue;
    downloaded = true;
    const file = bare(OUTPUT_FILE.exec(command)?.[1] ?? "");
    if (file !== "" && file !== "-" && !file.startsWith("/dev/")) files.add(file);
  }
  return false;
}

/** A word without its quotes and `./`. */
function bare(word: string): string {
  return word.replace(/^["'`({]?(?:\.\/)?/, "").replace(/["'`)}]$/, "");
}

/** Whether the shapes occur one after the other. */
function inOrder(text: string, ...shapes: readonly RegExp[]): boolean {
  let rest = text;
  for (const shape of shapes) {
    const match = shape.exec(rest);
    if (match === null) return false;
    rest = rest.slice(match.index + match[0].length);
  }
  return true;
}
