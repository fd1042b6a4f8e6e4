/** Shell completion of `trapline bpf`, from the same table as its help. */
import { BPF_COMMANDS } from './commands.ts';
import { type BpfOptionSpec, optionsOf } from './options.ts';

const NAMES = BPF_COMMANDS.map(({ name }) => name).join(' ');

const flags = (option: BpfOptionSpec): string[] => [
  ...(option.short === undefined ? [] : [`-${option.short}`]),
  `--${option.name}`,
];

/** The body of a bash function that gets `$current` and `$previous`. */
export function bashBpf(): string {
  const cases = BPF_COMMANDS.map(({ name }) => {
    const words = optionsOf(name).flatMap(flags).join(' ');
    const choices = optionsOf(name).filter((option) => option.choices !== undefined);
    const values = choices.map(
      (option) => `        ${flags(option).join(' | ')}) words='${option.choices!.join(' ')}' ;;`,
    );
    return `    ${name})
      words='${words}'
      case $previous in
${[...values, `        *) [[ $current == -* ]] || words= ;;`].join('\n')}
      esac
      ;;`;
  });
  return `_trapline_bpf() {
  local current=\${COMP_WORDS[COMP_CWORD]} previous=\${COMP_WORDS[COMP_CWORD - 1]} words=
  if ((COMP_CWORD == 2)); then
    mapfile -t COMPREPLY < <(compgen -W '${NAMES}' -- "$current")
    return
  fi
  case \${COMP_WORDS[2]} in
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

export function zshBpf(): string {
  const cases = BPF_COMMANDS.map(({ name }) => {
    const specs = optionsOf(name).map((option) => {
      const text = short(option)
        .replace(/[[\]:]/g, '\\$&')
        .replaceAll("'", "'\\''");
      const action =
        option.value === undefined
          ? ''
          : `:${option.value.replaceAll(/[[\]:]/g, '')}:${option.choices === undefined ? '_files' : `(${option.choices.join(' ')})`}`;
      return `        '--${option.name}${option.value === undefined ? '' : '='}[${text}]${action}' \\`;
    });
    return `    ${name})\n      _arguments -s -S \\\n${specs.join('\n')}\n        '*:file:_files'\n      ;;`;
  });
  return `_trapline_bpf() {
  if ((CURRENT == 2)); then
    compadd ${NAMES}
    return
  fi
  local command=$words[2]
  shift words
  ((CURRENT--))
  case $command in
${cases.join('\n')}
  esac
}
`;
}

export function fishBpf(): string {
  const lines = [
    `complete -c trapline -n '__fish_is_nth_token 1' -f -a bpf -d 'eBPF programs'`,
    ...BPF_COMMANDS.map(
      ({ name, summary }) =>
        `complete -c trapline -n '__fish_seen_subcommand_from bpf; and __fish_is_nth_token 2' -f -a ${name} -d ${quote(summary.replace(/\.$/, ''))}`,
    ),
  ];
  for (const { name } of BPF_COMMANDS) {
    for (const option of optionsOf(name)) {
      const value =
        option.value === undefined
          ? ''
          : option.choices === undefined
            ? ' -r'
            : ` -x -a ${quote(option.choices.join(' '))}`;
      const letter = option.short === undefined ? '' : ` -s ${option.short}`;
      lines.push(
        `complete -c trapline -n '__fish_seen_subcommand_from bpf; and __fish_seen_subcommand_from ${name}'${letter} -l ${option.name}${value} -d ${quote(short(option))}`,
      );
    }
  }
  return `${lines.join('\n')}\n`;
}

const quote = (text: string): string => `'${text.replace(/[\\']/g, '\\$&')}'`;

/** The first sentence, without its full stop. */
function short(option: BpfOptionSpec): string {
  return option.description.split(/[.;:] |\.$/)[0]!.replaceAll('`', '');
}
