; What a libretro core calls back, for one core: libretro hands on no pointer of the
; user's, so every core gets a copy of this code with its own variables. fceumm.py
; compiles it; machine.py reads and writes the variables.

; The address of 61,440 pixels of 16 bits, as of the last frame.
@screen = global ptr null
; The buttons that are held in the next frame, a bit mask.
@held = global i8 0

define i1 @environment(i32 %command, ptr %data) {
  ret i1 false
}

define void @video_refresh(ptr %screen, i32 %width, i32 %height, i64 %pitch) {
  store ptr %screen, ptr @screen
  ret void
}

define void @audio_sample(i16 %left, i16 %right) {
  ret void
}

define i64 @audio_sample_batch(ptr %samples, i64 %count) {
  ret i64 %count
}

define void @input_poll() {
  ret void
}

; The core asks for every button of every controller by libretro's numbers: 0 is B, 8 is
; A, 1 is a button that the NES lacks, and the rest are the bits of buttons.py.
define signext i16 @input_state(i32 %port, i32 %device, i32 %index, i32 %id) {
  %first = icmp eq i32 %port, 0
  %in_range = icmp ule i32 %id, 8
  %on_pad = icmp ne i32 %id, 1
  %known = and i1 %in_range, %on_pad
  %ours = and i1 %first, %known
  %is_a = icmp eq i32 %id, 8
  %is_b = icmp eq i32 %id, 0
  %bit_or_b = select i1 %is_b, i32 1, i32 %id
  %bit = select i1 %is_a, i32 0, i32 %bit_or_b
  %mask = load i8, ptr @held
  %held = zext i8 %mask to i32
  %shifted = lshr i32 %held, %bit
  %pressed = and i32 %shifted, 1
  %result = select i1 %ours, i32 %pressed, i32 0
  %short = trunc i32 %result to i16
  ret i16 %short
}
