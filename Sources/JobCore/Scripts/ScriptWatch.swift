import CLinux
import EventLoop
import Glibc
import Synchronization
import SystemPackage

/// Hears of all scripts that run: what they write, when they end, and when their time is over. One thread does it for all of them, and it sleeps
/// until there is something to hear.
final class ScriptWatch: Sendable {
    /// What is told of a script, by the watch's own thread: whoever is told must not block.
    typealias Teller = @Sendable (ScriptSupervision.Event) -> Void

    /// The one of this program.
    private static let shared = Mutex<ScriptWatch?>(nil)

    private struct Place {
        let process: ScriptProcess
        let output: LiveOutput
        let tell: Teller
        /// When something is to be told that is due then; nil: never.
        var due: (time: ContinuousClock.Instant, event: ScriptSupervision.Event)?
    }

    private struct State {
        /// By the process's number.
        var places: [pid_t: Place] = [:]
        /// When the timer rings; nil: it does not.
        var alarm: ContinuousClock.Instant?
    }

    /// As much as a pipe holds unless somebody has made it larger.
    private static let chunk = 64 * 1024
    /// The kernel's largest pipe for an ordinary user (/proc/sys/fs/pipe-max-size): what a process that has ended has written and nobody has read.
    private static let largestPipe = 1 << 20

    private let state = Mutex(State())
    private let poll: Int32
    private let timer: Int32

    /// - Throws: when descriptors or threads have run out.
    static func get() throws(Errno) -> ScriptWatch {
        let result = shared.withLock { shared -> Result<ScriptWatch, Errno> in
            if let shared { return .success(shared) }
            do throws(Errno) {
                let watch = try ScriptWatch()
                shared = watch
                return .success(watch)
            } catch { return .failure(error) }
        }
        return try result.get()
    }

    private init() throws(Errno) {
        poll = epoll_create1(Int32(EPOLL_CLOEXEC))
        guard poll >= 0 else { throw Errno(rawValue: errno) }
        timer = timerfd_create(CLOCK_BOOTTIME, Int32(TFD_CLOEXEC) | Int32(TFD_NONBLOCK))
        do throws(Errno) {
            guard timer >= 0 else { throw Errno(rawValue: errno) }
            try add(timer, .timer)
            try DedicatedThread.start("scripts") { [self] in run() }
        } catch {
            if timer >= 0 { close(timer) }
            close(poll)
            throw error
        }
    }

    // MARK: - For whoever runs a script

    /// Begins to listen to a script.
    /// - Parameters:
    ///   - timeLimit: when the script's time is over.
    ///   - clock: by which it goes.
    /// - Throws: when the kernel has no room for it.
    func add(
        _ process: ScriptProcess, output: LiveOutput, timeLimit: ContinuousClock.Instant, by clock: any SteadyClock,
        tell: @escaping Teller
    ) throws(Errno) {
        state.withLock { $0.places[process.number] = Place(process: process, output: output, tell: tell) }
        announce(.timeLimitReached, of: process, at: timeLimit, by: clock)
        do throws(Errno) {
            try add(process.output, .output(of: process.number))
            try add(process.handle, .end(of: process.number))
        } catch {
            forget(process)
            throw error
        }
    }

    /// Has something told at a time, in place of what was to be told then.
    func announce(
        _ event: ScriptSupervision.Event, of process: ScriptProcess, at due: ContinuousClock.Instant,
        by clock: any SteadyClock
    ) {
        // The timer goes by the machine's clock. A task that slept for each script would leave a timer of its own behind when the script ends early.
        guard clock is ContinuousClock else {
            let tell = place(process.number)?.tell
            Task { if (try? await clock.sleep(until: due, tolerance: nil)) != nil { tell?(event) } }
            return
        }
        state.withLock { state in
            state.places[process.number]?.due = (due, event)
            // One that rings for nothing costs a look, and setting it anew for each script would cost more.
            if state.alarm.map({ due < $0 }) ?? true { setAlarm(due, in: &state) }
        }
    }

    /// Ends listening: the process is to be reaped.
    func forget(_ process: ScriptProcess) {
        _ = state.withLock { $0.places.removeValue(forKey: process.number) }
    }

    // MARK: - The thread

    /// What there is to hear, as the kernel hands it back.
    private enum Sound {
        case timer
        case output(of: pid_t)
        case end(of: pid_t)

        var number: UInt64 {
            switch self {
            case .timer: 0
            case .output(let process): UInt64(UInt32(bitPattern: process)) << 2 | 1
            case .end(let process): UInt64(UInt32(bitPattern: process)) << 2 | 2
            }
        }

        init(_ number: UInt64) {
            let process = pid_t(truncatingIfNeeded: number >> 2)
            self = number & 3 == 0 ? .timer : number & 3 == 1 ? .output(of: process) : .end(of: process)
        }
    }

    private func add(_ descriptor: Int32, _ sound: Sound) throws(Errno) {
        var event = epoll_event(events: EPOLLIN.rawValue, data: epoll_data(u64: sound.number))
        guard epoll_ctl(poll, EPOLL_CTL_ADD, descriptor, &event) == 0 else { throw Errno(rawValue: errno) }
    }

    /// It may have been removed before.
    private func remove(_ descriptor: Int32) { _ = epoll_ctl(poll, EPOLL_CTL_DEL, descriptor, nil) }

    private func run() {
        var events = [epoll_event](repeating: epoll_event(), count: 64)
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: Self.chunk, alignment: 16)
        while true {
            let count = epoll_wait(poll, &events, Int32(events.count), -1)
            for event in events.prefix(max(0, Int(count))) {
                switch Sound(event.data.u64) {
                case .timer: ring()
                case .output(let process): if let place = place(process) { _ = read(place, buffer) }
                case .end(let process): if let place = place(process) { end(place, buffer) }
                }
            }
        }
    }

    private func place(_ process: pid_t) -> Place? { state.withLock { $0.places[process] } }

    /// - Returns: how many bytes there were; 0 when there are none now, or none any more.
    private func read(_ place: Place, _ buffer: UnsafeMutableRawBufferPointer) -> Int {
        let count = Glibc.read(place.process.output, buffer.baseAddress, buffer.count)
        if count > 0 {
            place.output.append(UnsafeRawBufferPointer(rebasing: buffer[..<count]))
            return count
        }
        let error = Errno(rawValue: errno)
        if count < 0, [.resourceTemporarilyUnavailable, .interrupted].contains(error) { return 0 }
        remove(place.process.output)
        // How the script ends is worth more than what it says: its output tells what is missing.
        if count < 0 {
            Array("\n[the rest of the output could not be read: \(error)]\n".utf8).withUnsafeBytes(place.output.append)
        }
        return 0
    }

    private func end(_ place: Place, _ buffer: UnsafeMutableRawBufferPointer) {
        let process = place.process
        remove(process.handle)
        // What it has written itself is in the pipe; one that escaped may go on writing for ever.
        var count = 0
        while count < Self.largestPipe, case let more = read(place, buffer), more > 0 { count += more }
        remove(process.output)
        process.hasEnded(leavingNothing: process.session.leavesNothing)
        place.tell(.exited)
    }

    private func ring() {
        var rings: UInt64 = 0
        _ = Glibc.read(timer, &rings, MemoryLayout.size(ofValue: rings))
        let now = ContinuousClock.now
        let told = state.withLock { state in
            var told: [(Teller, ScriptSupervision.Event)] = []
            var next: ContinuousClock.Instant?
            for (number, place) in state.places {
                guard let due = place.due else { continue }
                if due.time <= now {
                    state.places[number]?.due = nil
                    told.append((place.tell, due.event))
                } else {
                    next = min(next ?? due.time, due.time)
                }
            }
            setAlarm(next, in: &state)
            return told
        }
        for (tell, event) in told { tell(event) }
    }

    private func setAlarm(_ time: ContinuousClock.Instant?, in state: inout State) {
        state.alarm = time
        var setting = itimerspec()
        if let time {
            // Zero would mean never.
            let (seconds, attoseconds) = max(time - .now, .nanoseconds(1)).components
            setting.it_value = timespec(tv_sec: Int(seconds), tv_nsec: Int(attoseconds / 1_000_000_000))
        }
        timerfd_settime(timer, 0, &setting, nil)
    }
}
