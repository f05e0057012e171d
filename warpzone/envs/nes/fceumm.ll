; What a libretro core calls back, and the loop over frames, for one core: every core
; gets a copy of this code with its own variables. See fceumm.py, which compiles it.

; Set once by fceumm.py. Functions of the core, and its 2,048 bytes of RAM:
@advance = global ptr null
@save = global ptr null
@load = global ptr null
@memory = global ptr null
; The watch: i32 addresses, one or more, and rows of an i32 address and the lowest and
; the highest byte there, none or more.
@traced = global ptr null
@traced_count = global i64 0
@ordinary = global ptr null
@ordinary_count = global i64 0

; Set while a frame is emulated: 61,440 pixels of 16 bits, and the pressed buttons.
@screen = global ptr null
@held = global i32 0

declare void @llvm.memcpy.p0.p0.i64(ptr, ptr, i64, i1)

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
  %held = load i32, ptr @held
  %shifted = lshr i32 %held, %bit
  %pressed = and i32 %shifted, 1
  %result = select i1 %ours, i32 %pressed, i32 0
  %short = trunc i32 %result to i16
  ret i16 %short
}

; Load a console's state, run it for up to count frames, and save it again. A state is
; what the core saves, of the given size, and the screen, a byte a pixel. buttons[0] is
; what was held in the frame before; the last one is not used. Returns the frames run.
define i32 @run(ptr %old, ptr %new, i64 %size, ptr %ram, ptr %buttons, i32 %count,
                ptr %trace) {
entry:
  %advance = load ptr, ptr @advance
  %save = load ptr, ptr @save
  %load = load ptr, ptr @load
  %memory = load ptr, ptr @memory
  %traced = load ptr, ptr @traced
  %traced_count = load i64, ptr @traced_count
  %ordinary = load ptr, ptr @ordinary
  %ordinary_count = load i64, ptr @ordinary_count
  %loaded = call i1 %load(ptr %old, i64 %size)
  call void @llvm.memcpy.p0.p0.i64(ptr %memory, ptr %ram, i64 2048, i1 false)
  br label %frame

frame:
  %done = phi i32 [0, %entry], [%played, %all_rows_hold]
  %traces = phi ptr [%trace, %entry], [%next_traces, %all_rows_hold]
  %button = getelementptr i8, ptr %buttons, i32 %done
  %mask = load i8, ptr %button
  %held = zext i8 %mask to i32
  store i32 %held, ptr @held
  call void %advance()
  %played = add i32 %done, 1
  %next_traces = getelementptr i8, ptr %traces, i64 %traced_count
  br label %trace_byte

trace_byte:
  %index = phi i64 [0, %frame], [%next_index, %trace_byte]
  %address_at = getelementptr i32, ptr %traced, i64 %index
  %address = load i32, ptr %address_at
  %byte_at = getelementptr i8, ptr %memory, i32 %address
  %byte = load i8, ptr %byte_at
  %trace_at = getelementptr i8, ptr %traces, i64 %index
  store i8 %byte, ptr %trace_at
  %next_index = add i64 %index, 1
  %more_bytes = icmp ult i64 %next_index, %traced_count
  br i1 %more_bytes, label %trace_byte, label %next_row

next_row:
  %row = phi i64 [0, %trace_byte], [%following_row, %check_row]
  %more_rows = icmp ult i64 %row, %ordinary_count
  br i1 %more_rows, label %check_row, label %all_rows_hold

check_row:
  %watched_at = getelementptr [3 x i32], ptr %ordinary, i64 %row, i64 0
  %lowest_at = getelementptr [3 x i32], ptr %ordinary, i64 %row, i64 1
  %highest_at = getelementptr [3 x i32], ptr %ordinary, i64 %row, i64 2
  %watched = load i32, ptr %watched_at
  %lowest = load i32, ptr %lowest_at
  %highest = load i32, ptr %highest_at
  %value_at = getelementptr i8, ptr %memory, i32 %watched
  %value_byte = load i8, ptr %value_at
  %value = zext i8 %value_byte to i32
  %above = icmp uge i32 %value, %lowest
  %below = icmp ule i32 %value, %highest
  %holds = and i1 %above, %below
  %following_row = add i64 %row, 1
  br i1 %holds, label %next_row, label %end

all_rows_hold:
  %more_frames = icmp ult i32 %played, %count
  br i1 %more_frames, label %frame, label %end

end:
  call void @llvm.memcpy.p0.p0.i64(ptr %ram, ptr %memory, i64 2048, i1 false)
  %saved = call i1 %save(ptr %new, i64 %size)
  %pixels = getelementptr i8, ptr %new, i64 %size
  %screen = load ptr, ptr @screen
  br label %pixel

; The upper half of a raw pixel is its colour, see _colours.
pixel:
  %place = phi i64 [0, %end], [%next_place, %pixel]
  %raw_at = getelementptr i16, ptr %screen, i64 %place
  %raw = load i16, ptr %raw_at
  %upper = lshr i16 %raw, 8
  %colour = trunc i16 %upper to i8
  %pixel_at = getelementptr i8, ptr %pixels, i64 %place
  store i8 %colour, ptr %pixel_at
  %next_place = add i64 %place, 1
  %more_pixels = icmp ult i64 %next_place, 61440
  br i1 %more_pixels, label %pixel, label %leave

leave:
  ret i32 %played
}
