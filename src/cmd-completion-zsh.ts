import {
  type CommandRow,
  type CompletionTable,
  type FlagRow,
  type PositionalRow,
  packageNames,
  UNIT_NAMES_PIPE,
} from "./cmd-completion-table.ts";
import { VERSION } from "./self.ts";

/** Completion for zsh, as a file that compinit loads by its first line. */
export function zshScript(table: CompletionTable): string {
  return `#compdef aegis
# Completion of aegis ${VERSION} for zsh. Made by: aegis completion zsh

_aegis() {
  local curcontext=$curcontext state command
  local -a line second
  if ((CURRENT == 2)); then
    local -a first=(${described(table.first)} '--help:show help' '--version:print the version')
    _describe -t commands 'aegis command' first
    return
  fi
  command=$words[2]
  case $command in
${table.second.map(([first, rows]) => `    ${first}) second=(${described(rows)}) ;;`).join("\n")}
  esac
  local -a names=(\${second%%:*})
  if ((CURRENT > 3)) && ((\${names[(Ie)$words[3]]})); then
    command+=" $words[3]"
    words=("aegis $command" "\${(@)words[4,-1]}")
    ((CURRENT -= 2))
  else
    ((CURRENT > 3)) || ((\${#second} == 0)) || _describe -t commands "aegis $command" second
    words=("aegis $command" "\${(@)words[3,-1]}")
    ((CURRENT -= 1))
  fi
  case $command in
${table.commands.map(arm).join("\n")}
  esac
  case $state in
    ecosystem) compadd -- ${table.operations.map(([name]) => name).join(" ")} ;;
    operation)
      case $line[1] in
${table.operations
  .filter(([, names]) => names.length > 0)
  .map(([name, names]) => `        ${name}) compadd -- ${names.join(" ")} ;;`)
  .join("\n")}
      esac ;;
    package)
      case "$line[1] $line[2]" in
        'apt install' | 'apt remove' | 'apt purge' | 'apt hold' | 'apt unhold')
          compadd -- \${(f)"$(${packageNames('"$PREFIX"')})"} ;;
        'services restart') compadd -- \${(f)"$(${UNIT_NAMES_PIPE})"} ;;
      esac ;;
    help)
      if ((CURRENT == 2)); then
        local -a all=(${described([...table.first, ...table.topics])})
        _describe -t commands 'command or topic' all
      elif ((CURRENT == 3)); then
        case $words[2] in
${table.second.map(([first, rows]) => `          ${first}) compadd -- ${rows.map(([word]) => word).join(" ")} ;;`).join("\n")}
        esac
      fi ;;
  esac
}

_aegis_document() {
  _alternative 'words:newest:(latest)' 'files:file:_files'
}

_aegis "$@"
`;
}

function arm({ name, flags, positionals }: CommandRow): string {
  const specs = [...flags.map(flagSpec), ...positionals.map(positionalSpec)];
  return `    ${quote(name)})\n      _arguments -C -S \\\n${specs.map((spec) => `        ${quote(spec)}`).join(" \\\n")} ;;`;
}

function flagSpec({ name, description, value, multiple }: FlagRow): string {
  const text = `[${description.replace(/[[\]\\]/g, "\\$&")}]`;
  const head = `${multiple ? "*" : ""}--${name}`;
  if (value === null) return `${head}${text}`;
  if (value === "file") return `${head}=${text}:file:_files`;
  return `${head}=${text}:${value === "any" ? "value: " : `value:(${value.join(" ")})`}`;
}

function positionalSpec({ name, completes, multiple }: PositionalRow, index: number): string {
  return `${multiple ? "*" : index + 1}:${name}:${actionOf(completes)}`;
}

function actionOf(completes: PositionalRow["completes"]): string {
  if (typeof completes !== "string") return `(${completes.join(" ")})`;
  if (completes === "file") return "_files";
  if (completes === "document") return "_aegis_document";
  return `->${completes}`;
}

function described(rows: readonly (readonly [string, string])[]): string {
  return rows.map(([word, summary]) => quote(`${word}:${summary.replaceAll(":", "\\:")}`)).join(" ");
}

function quote(text: string): string {
  return `'${text.replaceAll("'", "'\\''")}'`;
}
