/** Shell completion of `trapline record`, `report` and `export`, from the same table as their help. */
import { TRACE_COMMAND_TEXTS } from './help.ts';
import { TRACE_COMMANDS } from './names.ts';
import { optionsOf, type TraceOptionSpec } from './options.ts';

const flags = (option: TraceOptionSpec): string[] => [
  ...(option.short === undefined ? [] : [`-${option.short}`]),
  `--${option.name}`,
];

/** A bash function that is called where the first word is one of the commands. */
export function bashTrace(): string {
  const cases = TRACE_COMMANDS.map((name) => {
    const options = optionsOf(name);
    const values = options
      .filter(({ choices, completion }) => choices !== undefined || completion === 'pid')
      .map((option) => {
        const words = option.choices === undefined ? '$(_trapline_pids)' : option.choices.join(' ');
        return `        ${flags(option).join(' | ')}) words="${words}" ;;`;
      });
    return `    ${name})
      words='${options.flatMap(flags).join(' ')}'
      case $previous in
${[...values, `        *) [[ $current == -* ]] || words= ;;`].join('\n')}
      esac
      ;;`;
  });
  return `_trapline_trace() {
  local current=\${COMP_WORDS[COMP_CWORD]} previous=\${COMP_WORDS[COMP_CWORD - 1]} words=
  case \${COMP_WORDS[1]} in
${cases.join('\n')}
  esac
  if [[ -n $words ]]; then
    mapfile -t COMPREPLY < <(compgen -W "$words" -- "$current")
  else
    mapfile -t COMPREPLY < <(compgen -f -- "$current")
  fi
}
`;
}

export function zshTrace(): string {
  const cases = TRACE_COMMANDS.map((name) => {
    const specs = optionsOf(name).map((option) => {
      const text = short(option)
        .replace(/[[\]:]/g, '\\$&')
        .replaceAll("'", "'\\''");
      const value =
        option.choices === undefined
          ? option.completion === 'pid'
            ? '_trapline_pids'
            : '_files'
          : `(${option.choices.join(' ')})`;
      const action = option.value === undefined ? '' : `:${option.value}:${value}`;
      return `        '--${option.name}${option.value === undefined ? '' : '='}[${text}]${action}' \\`;
    });
    return `    ${name})\n      _arguments -s -S \\\n${specs.join('\n')}\n        '*:file:_files'\n      ;;`;
  });
  return `_trapline_trace() {
  case $words[1] in
${cases.join('\n')}
  esac
}
`;
}

export function fishTrace(): string {
  const lines: string[] = [];
  for (const name of TRACE_COMMANDS) {
    const { summary } = TRACE_COMMAND_TEXTS[name];
    lines.push(
      `complete -c trapline -n '__fish_is_nth_token 1' -f -a ${name} -d ${quote(summary.replace(/\.$/, ''))}`,
    );
    for (const option of optionsOf(name)) {
      const letter = option.short === undefined ? '' : ` -s ${option.short}`;
      const choices =
        option.choices?.join(' ') ??
        (option.completion === 'pid' ? '(pgrep -x node 2>/dev/null)' : undefined);
      const value =
        option.value === undefined ? '' : choices === undefined ? ' -r' : ` -x -a ${quote(choices)}`;
      lines.push(
        `complete -c trapline -n '__fish_seen_subcommand_from ${name}'${letter} -l ${option.name}${value} -d ${quote(short(option))}`,
      );
    }
  }
  return `${lines.join('\n')}\n`;
}

const quote = (text: string): string => `'${text.replace(/[\\']/g, '\\$&')}'`;

/** The first sentence, without its full stop. */
function short(option: TraceOptionSpec): string {
  return option.description.split(/[.;:] |\.$/)[0]!.replaceAll('`', '');
}
