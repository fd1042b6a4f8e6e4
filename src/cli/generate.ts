import { bashBpf, fishBpf, zshBpf } from './bpf/completions.ts';
import { bpfDocs } from './bpf/help.ts';
import {
  FISH_PIDS,
  fishQuote,
  flagsOf,
  NODE_PROCESS,
  shortDescription,
  zshDescription,
} from './completion-parts.ts';
import { byGroup, describe, EXAMPLES, USAGE } from './help.ts';
import { OPTION_SPECS, type OptionSpec } from './options.ts';
import { bashTrace, fishTrace, zshTrace } from './trace/completions.ts';
import { traceDocs } from './trace/help.ts';
import { TRACE_COMMANDS } from './trace/names.ts';

/** The files that are made from the option table, by their path in the repository. `npm run generate` writes them. */
export function generatedFiles(): ReadonlyMap<string, string> {
  return new Map([
    ['docs/cli.md', docsPage()],
    ['docs/bpf-cli.md', bpfDocs()],
    ['docs/record-cli.md', traceDocs()],
    ['completions/trapline.bash', bashCompletion()],
    ['completions/_trapline', zshCompletion()],
    ['completions/trapline.fish', fishCompletion()],
  ]);
}

const GENERATED = 'made from src/cli/options.ts by `npm run generate`';

function docsPage(): string {
  const lines = ['# The command line', '', `<!-- ${GENERATED} -->`, '', '```', ...USAGE, '```', ''];
  lines.push(
    'A `PROGRAM` is text with a `{`, or the value of `-e`; anything else is the name of a script file, `-` is standard input.',
    'Further arguments are the positional parameters `$1`, `$2`, … of the script.',
  );
  for (const [group, options] of byGroup()) {
    lines.push('', `## ${group}`, '', '| option | meaning |', '| --- | --- |');
    for (const option of options)
      lines.push(`| ${markdownLabel(option)} | ${escapePipes(describe(option))} |`);
  }
  lines.push('', '## Examples', '', '```sh');
  for (const [command, what] of EXAMPLES) lines.push(`# ${what}`, command);
  lines.push(
    '```',
    '',
    '## Output and exit codes',
    '',
    'Data goes to standard output or to `-o`; "Attaching N probes...", lost events, warnings and what `-v` adds go to standard',
    'error. Ctrl-C ends tracing and prints all maps; a second Ctrl-C leaves at once, with everything restored. The exit code is 0,',
    '1 after an error in the command line, the script or the set-up, 130 where Ctrl-C came before "Attaching" (the command of `-c` ends',
    'with it, and has not begun), and `n` after `exit(n)`. It is 1 also where something could not',
    'be put back: `ERROR: process 4711 is not as it was: …` names the functions and the reason',
    '([when that happens](limits.md)).',
    '',
    '## JSON',
    '',
    'With `-f json` each line is `{"type": TYPE, "data": DATA}`; the types are bpftrace\'s, but for `warning`, which it has on standard error.',
    '',
    '| type | data |',
    '| --- | --- |',
    '| `attached_probes` | `{"probes": 2}` |',
    '| `printf`, `time`, `syscall` | the text; `syscall` is what a command of `system()` wrote |',
    '| `value` | what `print(x)` shows: a number, a string, an array for a tuple |',
    '| `map` | `{"@x": 1}`, with keys `{"@x": {"a,1": 1}}` |',
    '| `stats` | the same for `stats()`, whose values are `{"count": 2, "average": 3, "total": 6}`, and `avg()` |',
    '| `hist` | the same for `hist()` and `lhist()`, whose values are `[{"min": 2, "max": 3, "count": 1}, …]` |',
    '| `lost_events` | `{"events": 5}` |',
    '| `warning` | `{"message": …, "filename": …, "line": 1, "col": 8}`: a failure at a place of the script |',
    '',
    'Whole numbers that a double cannot hold are strings.',
    '',
    'Shell completions are in [completions](../completions).',
    '',
  );
  return lines.join('\n');
}

function markdownLabel(option: OptionSpec): string {
  const value = option.value === undefined ? '' : ` ${option.value}`;
  const short = option.short === undefined ? '' : `\`-${option.short}${value}\`, `;
  return `${short}\`--${option.name}${value}\``;
}

function escapePipes(text: string): string {
  return text.replaceAll('|', '\\|');
}

/** What a command line may begin with instead of options. */
const COMMANDS = ['bpf', 'tracefs', ...TRACE_COMMANDS].join(' ');
const FISH_TRACEFS =
  "complete -c trapline -n '__fish_is_nth_token 1' -a tracefs -d 'Mount the tracing folder of a process'";

function bashCompletion(): string {
  const words = OPTION_SPECS.flatMap(flagsOf);
  const cases = OPTION_SPECS.filter((option) => option.value !== undefined).map((option) => {
    return `    ${flagsOf(option).join(' | ')})\n      ${bashValue(option)}\n      return\n      ;;`;
  });
  return `# bash completion for trapline; ${GENERATED}
_trapline_pids() {
  pgrep -f '${NODE_PROCESS}' 2>/dev/null
}

${bashBpf()}
${bashTrace()}
_trapline() {
  if [[ \${COMP_WORDS[1]} == bpf ]] && ((COMP_CWORD > 1)); then
    _trapline_bpf
    return
  fi
  if [[ \${COMP_WORDS[1]} == @(${TRACE_COMMANDS.join('|')}) ]] && ((COMP_CWORD > 1)); then
    _trapline_trace
    return
  fi
  local current=\${COMP_WORDS[COMP_CWORD]} previous=\${COMP_WORDS[COMP_CWORD - 1]}
  # --arm=b is three words
  if [[ $current == = ]]; then
    current=
  elif [[ $previous == = ]]; then
    previous=\${COMP_WORDS[COMP_CWORD - 2]}
  fi
  case $previous in
${cases.join('\n')}
  esac
  if [[ $current == -* ]]; then
    mapfile -t COMPREPLY < <(compgen -W '${words.join(' ')}' -- "$current")
  else
    mapfile -t COMPREPLY < <(compgen -f -- "$current")
    ((COMP_CWORD == 1)) && mapfile -t -O \${#COMPREPLY[@]} COMPREPLY < <(compgen -W '${COMMANDS}' -- "$current")
  fi
}

complete -o filenames -F _trapline trapline
`;
}

function bashValue(option: OptionSpec): string {
  const words = (list: string) => `mapfile -t COMPREPLY < <(compgen -W ${list} -- "$current")`;
  if (option.choices !== undefined) return words(`'${option.choices.join(' ')}'`);
  if (option.completion === 'pid') return words('"$(_trapline_pids)"');
  if (option.completion === 'file') return 'mapfile -t COMPREPLY < <(compgen -f -- "$current")';
  if (option.completion === 'command') return 'mapfile -t COMPREPLY < <(compgen -c -- "$current")';
  return 'COMPREPLY=()';
}

function zshCompletion(): string {
  const specs = OPTION_SPECS.map((option) => {
    const action = option.value === undefined ? '' : `:${option.value}:${zshValue(option)}`;
    const head =
      option.short === undefined
        ? `'--${option.name}${option.value === undefined ? '' : '='}`
        : `${option.repeatable ? "'*'" : `'(-${option.short} --${option.name})'`}{-${option.short}${
            option.value === undefined ? '' : '+'
          },--${option.name}${option.value === undefined ? '' : '='}}'`;
    return `    ${head}[${zshDescription(option)}]${action}' \\`;
  });
  return `#compdef trapline
# zsh completion for trapline; ${GENERATED}
_trapline_pids() {
  local -a pids
  pids=(\${(f)"$(pgrep -f '${NODE_PROCESS}' 2>/dev/null)"})
  compadd -a pids
}

_trapline_first() {
  _alternative 'commands:command:(${COMMANDS})' 'files:script:_files'
}

${zshBpf()}
${zshTrace()}
_trapline() {
  if [[ $words[2] == bpf ]] && ((CURRENT > 2)); then
    shift words
    ((CURRENT--))
    _trapline_bpf
    return
  fi
  if [[ $words[2] == (${TRACE_COMMANDS.join('|')}) ]] && ((CURRENT > 2)); then
    shift words
    ((CURRENT--))
    _trapline_trace
    return
  fi
  _arguments -s -S \\
${specs.join('\n')}
    '1: :_trapline_first' \\
    '*:script or parameter:_files'
}

_trapline "$@"
`;
}

function zshValue(option: OptionSpec): string {
  if (option.choices !== undefined) return `(${option.choices.join(' ')})`;
  if (option.completion === 'pid') return '_trapline_pids';
  if (option.completion === 'file') return '_files';
  if (option.completion === 'command') return '_command_names';
  return ' ';
}

function fishCompletion(): string {
  const lines = OPTION_SPECS.map((option) => {
    const parts = ['complete -c trapline'];
    if (option.short !== undefined) parts.push(`-s ${option.short}`);
    parts.push(`-l ${option.name}`);
    if (option.value !== undefined)
      parts.push(option.completion === 'file' ? '-r -F' : `-x${fishValue(option)}`);
    parts.push(`-d ${fishQuote(shortDescription(option))}`);
    return parts.join(' ');
  });
  return `# fish completion for trapline; ${GENERATED}\n${lines.join('\n')}\n${FISH_TRACEFS}\n${fishBpf()}${fishTrace()}`;
}

function fishValue(option: OptionSpec): string {
  if (option.choices !== undefined) return ` -a ${fishQuote(option.choices.join(' '))}`;
  if (option.completion === 'pid') return ` -a '${FISH_PIDS}'`;
  if (option.completion === 'command') return " -a '(__fish_complete_command)'";
  return '';
}
