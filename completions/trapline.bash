# bash completion for trapline; made from src/cli/options.ts by `npm run generate`
_trapline_pids() {
  pgrep -x node 2>/dev/null
}

_trapline() {
  local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]}
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
    mapfile -t COMPREPLY < <(compgen -W '--execute -e --pid -p --command -c --list -l --output -o --format -f --arm --max-pause --maxactive --unsafe --debug -d --dry-run --info --verbose -v --help -h --version -V' -- "$current")
  else
    mapfile -t COMPREPLY < <(compgen -f -- "$current")
  fi
}

complete -o filenames -F _trapline trapline
