/**
 * The file `README`. Tools and the kernel's selftests look for some of its phrases to learn what a system can do; those stand as
 * there.
 */
export const README = String.raw`tracing mini-HOWTO:

This is the tracing folder of a Node.js process, as Linux has one for its kernel.
	 e.g. trapline tracefs -p PID --mount DIR

# echo 0 > tracing_on : stop recording
# echo 1 > tracing_on : record again

 Important files:
  trace			- what was recorded; writing to it empties it: echo > trace
  trace_pipe		- the same, taken as it is read; waits for more
  current_tracer	- the tracer that runs
  available_tracers	- tracers that there are
  error_log		- why the last commands were refused
  buffer_size_kb	- size of the buffer of each CPU (thread)
  buffer_total_size_kb	- of all of them
  trace_clock		- clock of the records
  timestamp_mode	- how the buffer keeps times
  trace_marker		- what is written here is recorded
  trace_marker_raw	- the same in binary
  tracing_cpumask	- CPUs (threads) that record
  instances		- more buffers: mkdir instances/foo, rmdir instances/foo
  trace_options		- how records are shown and made; 'no' in front turns off
  saved_cmdlines_size	- number of task names that are kept

  available_filter_functions - functions that can be traced
  set_ftrace_filter	- functions to trace
	     accepts: func_full_name or glob-matching-pattern
  set_ftrace_notrace	- functions not to trace
  snapshot		- a copy of the buffer, taken by echo 1 > snapshot
  dynamic_events		- Create/append/remove/show the generic dynamic events
			  Write into this file to define/undefine new trace events.
  kprobe_events		- Create/append/remove/show the kernel dynamic events
			  Write into this file to define/undefine new trace events.
	  accepts: event-definitions (one definition per line)
	   Format: p[:[<group>/][<event>]] <place> [<args>]
	           r[maxactive][:[<group>/][<event>]] <place> [<args>]
	           f[:[<group>/][<event>]] <func-name>[%return] [<args>]
	           t[:[<group>/][<event>]] <tracepoint> [<args>]
	           s:[synthetic/]<event> <field> [<field>]
	           e[:[<group>/][<event>]] <attached-group>.<attached-event> [<args>] [if <filter>]
	           -:[<group>/][<event>]
	    place: [<module>:]<symbol>[+<offset>]|<memaddr>
place (kretprobe): [<module>:]<symbol>[+<offset>]%return|<memaddr>
	     args: <name>=fetcharg[:type]
	 fetcharg: (%<register>|$<efield>), @<address>, @<symbol>[+|-<offset>],
	           $stack<index>, $stack, $retval, $comm, $arg<N>,
	           <argname>[->field[->field|.field...]],
	           +|-[u]<offset>(<fetcharg>), \imm-value, \"imm-string"
	     kernel return probes support: $retval, $arg<N>, $comm
	     type: s8/16/32/64, u8/16/32/64, x8/16/32/64, char, string, symbol,
	           b<bit-width>@<bit-offset>/<container-size>, ustring,
	           symstr, %pd/%pD, <type>\[<array-size>\]
	    field: <stype> <name>;
	    stype: u8/u16/u32/u64, s8/s16/s32/s64, pid_t,
	           [unsigned] char/int/long
	    efield: a field of <attached-group>/<attached-event>

  events/		- all events, by system
      enable		- 0 or 1: all of them off or on
  events/<system>/	- the events of a system
      enable, filter	- for all of its events
  events/<system>/<event>/
      enable		- 0 or 1
      filter		- only records that pass are kept
      trigger		- what to do when the event happens
	    Format: <trigger>[:count][if <filter>]
	   trigger: traceon, traceoff
	            enable_event:<system>:<event>
	            disable_event:<system>:<event>
	            enable_hist:<system>:<event>
	            disable_hist:<system>:<event>
		    stacktrace
		    snapshot
		    hist (see below)
	   A '!' in front removes one.
      hist trigger	- hits are counted in a table
	    Format: hist:keys=<field1[,field2,...]>
	            [:<var1>=<field|var_ref|numeric_literal>[,<var2>=...]]
	            [:values=<field1[,field2,...]>]
	            [:sort=<field1[,field2,...]>]
	            [:size=#entries]
	            [:pause][:continue][:clear]
	            [:name=histname1]
	            [:nohitcount]
	            [:<handler>.<action>]
	            [if <filter>]
	    Keys and values can be any field, or the special string 'common_stacktrace'.
	    common_timestamp and common_cpu are fields of every event.
	    Modifiers of fields: .hex .sym .sym-offset .execname .syscall .log2 .buckets=size
	            .usecs .percent .graph
	    Handlers: onmatch(matching.event), onmax(var), onchange(var)
	    Actions: <synthetic_event>(param list), trace(<synthetic_event>,param list),
	            save(field,...), snapshot()
      hist_debug	- how a hist trigger is built

  synthetic_events	- Create/append/remove/show synthetic events
	  e.g. echo 'wakeup_latency u64 lat; pid_t pid;' >> synthetic_events
	       echo 'blocked pid_t pid; u64 delta; unsigned long[] stack' >> synthetic_events
`;
