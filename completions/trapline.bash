# bash completion for trapline; made from src/cli/options.ts by `npm run generate`
_trapline_pids() {
  pgrep -f '^([^ ]*/)?node ' 2>/dev/null
}

_trapline_bpf() {
  local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]} words=
  if ((COMP_CWORD == 2)); then
    mapfile -t COMPREPLY < <(compgen -W 'run verify dump disasm gen btf map attach step conformance-plugin' -- "$current")
    return
  fi
  case ${COMP_WORDS[2]} in
    run)
      words='-p --prog -t --type --input --data-in --ctx-in --data-out --ctx-out --repeat --engine --set --put --new-map --target-btf --kconfig -f --format -h --help'
      case $previous in
        --input) words="auto elf bin hex asm" ;;
        --engine) words="jit interpreter" ;;
        -f | --format) words="text json" ;;
        *) [[ $current == -* ]] || words= ;;
      esac
      ;;
    verify)
      words='-p --prog -t --type --input --set --new-map --target-btf --kconfig -l --log-level --unprivileged -f --format -h --help'
      case $previous in
        --input) words="auto elf bin hex asm" ;;
        -l | --log-level) words="0 1 2" ;;
        -f | --format) words="text json" ;;
        *) [[ $current == -* ]] || words= ;;
      esac
      ;;
    dump)
      words='-p --prog -t --type --input --set --new-map --target-btf --kconfig -s --stage -o --output -f --format -h --help'
      case $previous in
        --input) words="auto elf bin hex asm" ;;
        -s | --stage) words="insns xlated wat" ;;
        -f | --format) words="text json" ;;
        *) [[ $current == -* ]] || words= ;;
      esac
      ;;
    disasm)
      words='--input --syntax -o --output -f --format -h --help'
      case $previous in
        --input) words="auto elf bin hex asm" ;;
        --syntax) words="kernel conformance" ;;
        -f | --format) words="text json" ;;
        *) [[ $current == -* ]] || words= ;;
      esac
      ;;
    gen)
      words='--import-from -o --output -h --help'
      case $previous in
        *) [[ $current == -* ]] || words= ;;
      esac
      ;;
    btf)
      words='-B --base -o --output -h --help'
      case $previous in
        *) [[ $current == -* ]] || words= ;;
      esac
      ;;
    map)
      words='-p --prog -t --type --input --data-in --ctx-in --repeat --engine --set --put --new-map -m --map --target-btf --kconfig -o --output -f --format -h --help'
      case $previous in
        --input) words="auto elf bin hex asm" ;;
        --engine) words="jit interpreter" ;;
        -f | --format) words="text json" ;;
        *) [[ $current == -* ]] || words= ;;
      esac
      ;;
    attach)
      words='-p --pid --program --cookie --max-pause --set -m --map --target-btf --kconfig -f --format -h --help'
      case $previous in
        -f | --format) words="text json" ;;
        *) [[ $current == -* ]] || words= ;;
      esac
      ;;
    step)
      words='-p --prog -t --type --input --data-in --ctx-in --set --put --new-map --target-btf --kconfig -h --help'
      case $previous in
        --input) words="auto elf bin hex asm" ;;
        *) [[ $current == -* ]] || words= ;;
      esac
      ;;
    conformance-plugin)
      words='--elf --interpret -h --help'
      case $previous in
        *) [[ $current == -* ]] || words= ;;
      esac
      ;;
  esac
  if [[ -n $words ]]; then
    mapfile -t COMPREPLY < <(compgen -W "$words" -- "$current")
  else
    mapfile -t COMPREPLY < <(compgen -f -- "$current")
  fi
}

_trapline_trace() {
  local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]} words=
  case ${COMP_WORDS[1]} in
    record)
      words='-p --pid -c --command -e --event -f --filter -R --trigger -B --buffer --tracer -C --clock -O --trace-option -b --buffer-size -s --sleep -d --duration -o --output --file-version --compression --date --max-pause -q --quiet -v --verbose -h --help'
      case $previous in
        -p | --pid) words="$(_trapline_pids)" ;;
        --file-version) words="6 7" ;;
        --compression) words="none zlib zstd any" ;;
        *) [[ $current == -* ]] || words= ;;
      esac
      ;;
    report)
      words='-o --output -i --input -F --filter --cpu -l --latency -t --nanoseconds -R --raw --ts-diff --stat --uname -h --help'
      case $previous in
        *) [[ $current == -* ]] || words= ;;
      esac
      ;;
    export)
      words='-o --output -t --to -i --input -F --filter -h --help'
      case $previous in
        -t | --to) words="perfetto chrome speedscope json" ;;
        *) [[ $current == -* ]] || words= ;;
      esac
      ;;
  esac
  if [[ -n $words ]]; then
    mapfile -t COMPREPLY < <(compgen -W "$words" -- "$current")
  else
    mapfile -t COMPREPLY < <(compgen -f -- "$current")
  fi
}

_trapline() {
  if [[ ${COMP_WORDS[1]} == bpf ]] && ((COMP_CWORD > 1)); then
    _trapline_bpf
    return
  fi
  if [[ ${COMP_WORDS[1]} == @(record|report|export) ]] && ((COMP_CWORD > 1)); then
    _trapline_trace
    return
  fi
  local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]}
  # --arm=b is three words
  if [[ $current == = ]]; then
    current=
  elif [[ $previous == = ]]; then
    previous=${COMP_WORDS[COMP_CWORD - 2]}
  fi
  case $previous in
    -e | --execute)
      COMPREPLY=()
      return
      ;;
    -p | --pid)
      mapfile -t COMPREPLY < <(compgen -W "$(_trapline_pids)" -- "$current")
      return
      ;;
    -c | --command)
      mapfile -t COMPREPLY < <(compgen -c -- "$current")
      return
      ;;
    -o | --output)
      mapfile -t COMPREPLY < <(compgen -f -- "$current")
      return
      ;;
    -f | --format)
      mapfile -t COMPREPLY < <(compgen -W 'text json' -- "$current")
      return
      ;;
    --arm)
      mapfile -t COMPREPLY < <(compgen -W 'auto nop bind edit break' -- "$current")
      return
      ;;
    --max-pause)
      COMPREPLY=()
      return
      ;;
    --maxactive)
      COMPREPLY=()
      return
      ;;
    -d | --debug)
      mapfile -t COMPREPLY < <(compgen -W 'ast maps codegen verifier wasm all' -- "$current")
      return
      ;;
  esac
  if [[ $current == -* ]]; then
    mapfile -t COMPREPLY < <(compgen -W '-e --execute -p --pid -c --command -l --list -o --output -f --format --arm --max-pause --maxactive --unsafe -d --debug --dry-run --info -v --verbose -h --help -V --version' -- "$current")
  else
    mapfile -t COMPREPLY < <(compgen -f -- "$current")
    ((COMP_CWORD == 1)) && mapfile -t -O ${#COMPREPLY[@]} COMPREPLY < <(compgen -W 'bpf tracefs record report export' -- "$current")
  fi
}

complete -o filenames -F _trapline trapline
