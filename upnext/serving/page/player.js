// A simulated player: no film runs, but the part played advances as if one did.

const SECONDS = 60; // a whole title, at speed 1
const SPEEDS = [1, 4, 16];
const TICK_MS = 100;

/** Calls `onChange(state)` as it plays and `onEnd()` once all is played; `state` is {part, isPlaying, speed}. */
export function createPlayer({ from, onChange, onEnd }) {
  const state = { part: from, isPlaying: false, speed: SPEEDS[1] };
  let timer = 0;
  let then = 0;

  function tick() {
    const now = performance.now();
    state.part = Math.min(1, state.part + (((now - then) / 1000) * state.speed) / SECONDS);
    then = now;
    if (state.part === 1) {
      pause();
      onEnd();
    } else {
      onChange(state);
    }
  }

  function play() {
    if (state.isPlaying) return;
    state.isPlaying = true;
    then = performance.now();
    timer = setInterval(tick, TICK_MS);
    onChange(state);
  }

  function pause() {
    clearInterval(timer);
    state.isPlaying = false;
    onChange(state);
  }

  function nextSpeed() {
    state.speed = SPEEDS[(SPEEDS.indexOf(state.speed) + 1) % SPEEDS.length];
    onChange(state);
  }

  return { state, play, pause, nextSpeed };
}
