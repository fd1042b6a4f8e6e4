/** Shell completion of `trapline bpf`, from the same table as its help. */
import { BASH_REPLY, bashCases, fishOptions, fishQuote, zshCases } from '../completion-parts.ts';
import { BPF_COMMANDS } from './commands.ts';
import { optionsOf } from './options.ts';

const COMMANDS = BPF_COMMANDS.map(({ name }) => ({ name, options: optionsOf(name) }));
const NAMES = BPF_COMMANDS.map(({ name }) => name).join(' ');
const SEEN = '__fish_seen_subcommand_from bpf; and';

/** A bash function that is called where the first word is `bpf`. */
export function bashBpf(): string {
  return `_trapline_bpf() {
  local current=\${COMP_WORDS[COMP_CWORD]} previous=\${COMP_WORDS[COMP_CWORD - 1]} words=
  if ((COMP_CWORD == 2)); then
    mapfile -t COMPREPLY < <(compgen -W '${NAMES}' -- "$current")
    return
  fi
  case \${COMP_WORDS[2]} in
${bashCases(COMMANDS)}
  esac
${BASH_REPLY}
}
`;
}

export function zshBpf(): string {
  return `_trapline_bpf() {
  if ((CURRENT == 2)); then
    compadd ${NAMES}
    return
  fi
  local command=$words[2]
  shift words
  ((CURRENT--))
  case $command in
${zshCases(COMMANDS)}
  esac
}
`;
}

export function fishBpf(): string {
  const lines = [`complete -c trapline -n '__fish_is_nth_token 1' -f -a bpf -d 'eBPF programs'`];
  for (const { name, summary } of BPF_COMMANDS) {
    const what = fishQuote(summary.replace(/\.$/, ''));
    lines.push(`complete -c trapline -n '${SEEN} __fish_is_nth_token 2' -f -a ${name} -d ${what}`);
  }
  for (const { name, options } of COMMANDS)
    lines.push(...fishOptions(`${SEEN} __fish_seen_subcommand_from ${name}`, options));
  return `${lines.join('\n')}\n`;
}
