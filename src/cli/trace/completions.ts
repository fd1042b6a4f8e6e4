/** Shell completion of `trapline record`, `report` and `export`, from the same table as their help. */
import { BASH_REPLY, bashCases, fishOptions, fishQuote, zshCases } from '../completion-parts.ts';
import { TRACE_COMMAND_TEXTS } from './help.ts';
import { TRACE_COMMANDS } from './names.ts';
import { optionsOf } from './options.ts';

const COMMANDS = TRACE_COMMANDS.map((name) => ({ name, options: optionsOf(name) }));

/** A bash function that is called where the first word is one of the commands. */
export function bashTrace(): string {
  return `_trapline_trace() {
  local current=\${COMP_WORDS[COMP_CWORD]} previous=\${COMP_WORDS[COMP_CWORD - 1]} words=
  case \${COMP_WORDS[1]} in
${bashCases(COMMANDS)}
  esac
${BASH_REPLY}
}
`;
}

export function zshTrace(): string {
  return `_trapline_trace() {
  case $words[1] in
${zshCases(COMMANDS)}
  esac
}
`;
}

export function fishTrace(): string {
  const lines = COMMANDS.flatMap(({ name, options }) => {
    const what = fishQuote(TRACE_COMMAND_TEXTS[name].summary.replace(/\.$/, ''));
    return [
      `complete -c trapline -n '__fish_is_nth_token 1' -f -a ${name} -d ${what}`,
      ...fishOptions(`__fish_seen_subcommand_from ${name}`, options),
    ];
  });
  return `${lines.join('\n')}\n`;
}
