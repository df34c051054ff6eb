import {
  type CommandRow,
  type CompletionTable,
  type PositionalRow,
  packageNames,
  UNIT_NAMES_PIPE,
} from "./cmd-completion-table.ts";
import { VERSION } from "./self.ts";

/** Completion for bash 4.2 or later; it needs no function of the package bash-completion, which only loads it. */
export function bashScript(table: CompletionTable): string {
  const pairs = table.second.flatMap(([first, rows]) => rows.map(([word]) => `${first} ${word}`));
  return `# Completion of aegis ${VERSION} for bash. Made by: aegis completion bash
_aegis() {
  local word glue= flag= ended= command kind
  local -a words=() args=() typed=()
  local -A options=()
  local flags= files= plain=
  COMPREPLY=()
  # Readline breaks words at = and :, and aegis does not.
  for word in "\${COMP_WORDS[@]:1:COMP_CWORD}"; do
    if ((\${#words[@]} > 0)) && [[ -n $glue || $word == [=:] ]]; then words[-1]+=$word; else words+=("$word"); fi
    glue=; [[ $word != [=:] ]] || glue=1
  done
  local cur=\${words[-1]}
  unset 'words[-1]'
  if ((\${#words[@]} == 0)); then
    _aegis_words '${words(table.first)} --help --version'
    return
  fi
  command=\${words[0]}
  words=("\${words[@]:1}")
  if ((\${#words[@]} > 0)); then
    case "$command \${words[0]}" in
      ${pairs.map(quote).join(" | ")}) command+=" \${words[0]}"; words=("\${words[@]:1}") ;;
    esac
  else
    case $command in
${table.second.map(([first, rows]) => `      ${first}) _aegis_words '${words(rows)}' ;;`).join("\n")}
    esac
  fi
  case $command in
${table.commands.map(arm).join("\n")}
    *) return ;;
  esac
  for word in "\${words[@]}"; do
    if [[ -n $flag ]]; then flag=
    elif [[ -z $ended && $word == -- ]]; then ended=1
    elif [[ -z $ended && $word == --* ]]; then
      [[ " $files $plain \${!options[*]} " != *" $word "* ]] || flag=$word
    else typed+=("$word"); fi
  done
  if [[ -z $flag && -z $ended && $cur == --*=* ]]; then
    flag=\${cur%%=*}
    cur=\${cur#*=}
  fi
  if [[ -n $flag ]]; then
    if [[ " $files " == *" $flag "* ]]; then compopt -o default
    elif [[ -n \${options[$flag]-} ]]; then _aegis_words "\${options[$flag]}"; fi
    return
  fi
  if [[ -z $ended && $cur == -* ]]; then
    _aegis_words "$flags"
    return
  fi
  kind=\${args[\${#typed[@]}]-}
  # The last one may take all that follows.
  if [[ -z $kind && \${#args[@]} -gt 0 && \${args[-1]} == *+ ]]; then kind=\${args[-1]}; fi
  case \${kind%+} in
    file) compopt -o default ;;
    document)
      if [[ -n $cur && latest == "$cur"* ]]; then COMPREPLY+=(latest); else compopt -o default; fi ;;
    ecosystem) _aegis_words '${table.operations.map(([name]) => name).join(" ")}' ;;
    operation)
      case \${typed[0]-} in
${table.operations
  .filter(([, names]) => names.length > 0)
  .map(([name, names]) => `        ${name}) _aegis_words '${names.join(" ")}' ;;`)
  .join("\n")}
      esac ;;
    package)
      case "\${typed[0]-} \${typed[1]-}" in
        'apt install' | 'apt remove' | 'apt purge' | 'apt hold' | 'apt unhold')
          mapfile -t COMPREPLY < <(${packageNames('"$cur"')}) ;;
        'services restart') _aegis_words "$(${UNIT_NAMES_PIPE})" ;;
      esac ;;
    help)
      if ((\${#typed[@]} == 0)); then _aegis_words '${words([...table.first, ...table.topics])}'
      elif ((\${#typed[@]} == 1)); then
        case \${typed[0]} in
${table.second.map(([first, rows]) => `          ${first}) _aegis_words '${words(rows)}' ;;`).join("\n")}
        esac
      fi ;;
    =*) _aegis_words "\${kind#=}" ;;
  esac
}

_aegis_words() {
  local word
  # Not by compgen -W, which would expand what has been typed.
  for word in $1; do [[ $word != "$cur"* ]] || COMPREPLY+=("$word"); done
}

complete -F _aegis aegis
`;
}

function arm({ name, flags, positionals }: CommandRow): string {
  const of = (value: unknown) => flags.filter((flag) => flag.value === value).map((flag) => `--${flag.name}`);
  const options = flags.flatMap((flag) =>
    Array.isArray(flag.value) ? [`[--${flag.name}]='${flag.value.join(" ")}'`] : [],
  );
  const parts = [
    `flags='${flags.map((flag) => `--${flag.name}`).join(" ")}'`,
    `files='${of("file").join(" ")}'`,
    `plain='${of("any").join(" ")}'`,
    ...(options.length === 0 ? [] : [`options=(${options.join(" ")})`]),
    ...(positionals.length === 0 ? [] : [`args=(${positionals.map(kindOf).join(" ")})`]),
  ];
  return `    ${quote(name)}) ${parts.join("; ")} ;;`;
}

function kindOf({ completes, multiple }: PositionalRow): string {
  const kind = typeof completes === "string" ? completes : `=${completes.join(" ")}`;
  return quote(multiple ? `${kind}+` : kind);
}

function words(rows: readonly (readonly [string, string])[]): string {
  return rows.map(([word]) => word).join(" ");
}

function quote(text: string): string {
  return `'${text.replaceAll("'", "'\\''")}'`;
}
