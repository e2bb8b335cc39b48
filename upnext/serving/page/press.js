// A press acts once. What slides under the pointer after it must not catch the second half of a double click.

const STRAY_MS = 800;
const STRAY_PX = 14;

let pressed = null;
let movedAt = 0;

/** Remembers where a pointer pressed an action. */
export function notePress(event) {
  if (event.detail > 0) pressed = { x: event.clientX, y: event.clientY, time: performance.now() };
}

/** Remembers that what is on the page has moved. */
export function noteMove() {
  movedAt = performance.now();
}

/** Whether a click came where an action was just pressed, right after it or after what it moved. */
export function isStray(event) {
  if (!pressed || event.detail === 0) return false; // no click yet, or one by the keyboard
  const isNear = Math.hypot(event.clientX - pressed.x, event.clientY - pressed.y) < STRAY_PX;
  return isNear && performance.now() - Math.max(pressed.time, movedAt) < STRAY_MS;
}
