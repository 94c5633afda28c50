#!/usr/bin/env escript
%% OTP: a supervisor (one_for_one; for "group" one_for_all) of gen_servers, with the peers' manners (observe.h). A server that
%% fails stops in its first moment, "paced" after 1 ms; one with a port runs a program and stops when it has ended.
%%
%%     escript peer_supervisor.escript fail|idle|fed server|paced|port|group COUNT CHILD
-mode(compile).

%% supervisor and gen_server
-export([init/1, start_child/1, handle_continue/2, handle_info/2, handle_call/3, handle_cast/2, terminate/2]).

main([Kind, Word, Count, Child]) ->
    %% Nothing but the restarts: no report is written.
    logger:set_primary_config(level, none),
    Starts = counters:new(1, []),
    persistent_term:put(starts, Starts),
    N = list_to_integer(Count),
    Does = fun
        (1) when Word =:= "group" -> fail;
        (_) when Word =:= "group" -> idle;
        (_) when Word =:= "port" -> {port, Child};
        (_) when Word =:= "paced" -> paced;
        (_) -> list_to_atom(Kind)
    end,
    Strategy = case Word of "group" -> one_for_all; _ -> one_for_one end,
    process_flag(trap_exit, true),
    {ok, Supervisor} = supervisor:start_link(?MODULE, {supervisor, Strategy, [{I, Does(I)} || I <- lists:seq(1, N)]}),
    io:format("ready~n"),
    answer(Supervisor, Starts, N).

answer(Supervisor, Starts, N) ->
    case io:get_line("") of
        eof ->
            exit(Supervisor, shutdown),
            receive {'EXIT', Supervisor, _} -> halt(0) end;
        _ ->
            io:format("~p~n", [max(0, counters:get(Starts, 1) - N)]),
            answer(Supervisor, Starts, N)
    end.

start_child(What) -> gen_server:start_link(?MODULE, {server, What}, []).

init({supervisor, Strategy, Children}) ->
    {ok, {#{strategy => Strategy, intensity => 1000000000, period => 1},
          [#{id => I, start => {?MODULE, start_child, [What]}, shutdown => brutal_kill} || {I, What} <- Children]}};
init({server, What}) ->
    counters:add(persistent_term:get(starts), 1, 1),
    case What of
        fail -> {ok, What, {continue, fail}};
        {port, Child} ->
            open_port({spawn_executable, Child}, [{args, ["fail"]}, exit_status]),
            {ok, What};
        paced -> {ok, What, 1};
        idle -> {ok, What};
        fed -> {ok, What, 1000}
    end.

handle_continue(fail, What) -> {stop, failed, What}.
handle_info({_Port, {exit_status, _}}, What) -> {stop, failed, What};
handle_info(timeout, paced) -> {stop, failed, paced};
handle_info(timeout, What) -> {noreply, What, 1000}.
handle_call(_, _, What) -> {reply, ok, What}.
handle_cast(_, What) -> {noreply, What}.
terminate(_, _) -> ok.
