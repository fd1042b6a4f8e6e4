/** Pieces of the shell completions that the command line and its commands share. */
import type { OptionSpec } from './options.ts';

export type CompletedOption = Omit<OptionSpec, 'group'>;

/** A command with options of its own: `verify` of `trapline bpf`, `record`. */
export interface CompletedCommand {
  readonly name: string;
  readonly options: readonly CompletedOption[];
}

/** What `pgrep -f` finds Node processes by, whatever the kernel calls them. */
export const NODE_PROCESS = '^([^ ]*/)?node ';
/** Lists their process ids, in fish; `_trapline_pids` of the other shells does. */
export const FISH_PIDS = `(pgrep -f "${NODE_PROCESS}" 2>/dev/null)`;

export const flagsOf = (option: CompletedOption): string[] => [
  ...(option.short === undefined ? [] : [`-${option.short}`]),
  `--${option.name}`,
];

/** The first sentence, without its full stop. */
export function shortDescription(option: CompletedOption): string {
  return option.description.split(/[.;] |\.$/)[0]!.replaceAll('`', '');
}

export const fishQuote = (text: string): string => `'${text.replace(/[\\']/g, '\\$&')}'`;

/** A description within the brackets and quotes of a zsh specification. */
export function zshDescription(option: CompletedOption): string {
  return shortDescription(option)
    .replace(/[[\]:]/g, '\\$&')
    .replaceAll("'", "'\\''");
}

/** The arms of a `case` on the command: `$words` is what may stand at `$current`, nothing where it is a file. */
export function bashCases(commands: readonly CompletedCommand[]): string {
  return commands
    .map(({ name, options }) => {
      const values = options.flatMap((option) => {
        if (option.choices === undefined && option.completion !== 'pid') return [];
        const words = option.choices === undefined ? '$(_trapline_pids)' : option.choices.join(' ');
        return [`        ${flagsOf(option).join(' | ')}) words="${words}" ;;`];
      });
      return `    ${name})
      words='${options.flatMap(flagsOf).join(' ')}'
      case $previous in
${[...values, `        *) [[ $current == -* ]] || words= ;;`].join('\n')}
      esac
      ;;`;
    })
    .join('\n');
}

/** What follows such a `case`. */
export const BASH_REPLY = `  if [[ -n $words ]]; then
    mapfile -t COMPREPLY < <(compgen -W "$words" -- "$current")
  else
    mapfile -t COMPREPLY < <(compgen -f -- "$current")
  fi`;

/** The arms of a `case` on the command. */
export function zshCases(commands: readonly CompletedCommand[]): string {
  return commands
    .map(({ name, options }) => {
      const specs = options.map((option) => {
        const [equals, action] =
          option.value === undefined
            ? ['', '']
            : ['=', `:${option.value.replaceAll(/[[\]:]/g, '')}:${zshValue(option)}`];
        return `        '--${option.name}${equals}[${zshDescription(option)}]${action}' \\`;
      });
      return `    ${name})\n      _arguments -s -S \\\n${specs.join('\n')}\n        '*:file:_files'\n      ;;`;
    })
    .join('\n');
}

function zshValue({ choices, completion }: CompletedOption): string {
  if (choices !== undefined) return `(${choices.join(' ')})`;
  return completion === 'pid' ? '_trapline_pids' : '_files';
}

/** A line for each option, where `condition` holds. */
export function fishOptions(condition: string, options: readonly CompletedOption[]): string[] {
  return options.map((option) => {
    const letter = option.short === undefined ? '' : ` -s ${option.short}`;
    const words = option.choices?.join(' ') ?? (option.completion === 'pid' ? FISH_PIDS : undefined);
    const value =
      option.value === undefined ? '' : words === undefined ? ' -r' : ` -x -a ${fishQuote(words)}`;
    const what = fishQuote(shortDescription(option));
    return `complete -c trapline -n '${condition}'${letter} -l ${option.name}${value} -d ${what}`;
  });
}
