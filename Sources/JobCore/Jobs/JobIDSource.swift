import EventLoop
import Glibc
import Synchronization
public import SystemPackage

/// Gives out the numbers of jobs: each once, and each above all before, also over restarts and crashes.
///
/// A file holds the first number that is not reserved yet. Numbers are reserved a block at a time, and the file is safely on the disk before
/// the first of a block is given out; so a crash skips numbers and never repeats one. One instance at a time: the daemon's lock sees to it.
///
/// A file that cannot be understood is set aside, and the numbers go on from the milliseconds since 1970: above every earlier number
/// unless there were more than a thousand jobs in each second since, and growing with every further such accident.
///
/// A block is reserved on a thread that may block: two flushes of a small file, once in a thousand jobs.
public final class JobIDSource: Sendable {
    private struct State {
        var next: UInt64
        var end: UInt64
    }

    /// What is to be told to the operator: nil unless a damaged file was set aside.
    public let notice: String?

    private let file: FilePath
    private let block: UInt64
    private let state: Mutex<State>
    /// Held while a block is reserved.
    private let reserving = Mutex(())

    /// Reads where to go on. Nothing is written before the first number is asked for, unless the file is damaged.
    /// - Parameters:
    ///   - file: in a directory that exists. No file: begin with 1.
    ///   - block: how many numbers are reserved at a time (1…1,000,000).
    public convenience init(file: FilePath, block: UInt64 = 1000) throws(StateFileError) {
        var now = timespec()
        clock_gettime(CLOCK_REALTIME, &now)
        try self.init(file: file, block: block, now: .seconds(now.tv_sec) + .nanoseconds(now.tv_nsec))
    }

    /// - Parameter now: the time since 1970.
    init(file: FilePath, block: UInt64, now: Duration) throws(StateFileError) {
        self.file = file
        self.block = min(max(1, block), 1_000_000)
        guard let contents = try StateFile.read(file) else {
            notice = nil
            state = Mutex(State(next: 1, end: 1))
            return
        }
        if let first = Self.number(in: contents) {
            notice = nil
            state = Mutex(State(next: first, end: first))
            return
        }
        let (seconds, attoseconds) = now.components
        let first = UInt64(clamping: seconds) * 1000 + UInt64(clamping: attoseconds / 1_000_000_000_000_000)
        let aside = try StateFile.setAside(file, at: Int(seconds))
        notice =
            "\(file.printable): holds no number of a job; it was set aside as \(aside.printable), and jobs are numbered from \(first) on"
        state = Mutex(State(next: first, end: first))
        // Reserved at once: should the daemon end before its first job, the next one must not begin with 1.
        try reserve()
    }

    /// The next number.
    /// - Throws: ``StateFileError`` where a block cannot be reserved.
    public func next() async throws(StateFileError) -> JobID {
        if let next = reserved() { return next }
        return try await BlockingWork.run { [self] () -> Result<JobID, StateFileError> in
            reserving.withLock { _ in
                do throws(StateFileError) {
                    while true {
                        if let next = reserved() { return .success(next) }
                        try reserve()
                    }
                } catch {
                    return .failure(error)
                }
            }
        }.get()
    }

    private func reserved() -> JobID? {
        state.withLock { state in
            guard state.next < state.end else { return nil }
            defer { state.next += 1 }
            return JobID(state.next)
        }
    }

    private func reserve() throws(StateFileError) {
        let end = state.withLock(\.next) + block
        try StateFile.replace(file, with: "\(end)\n", isDurable: true)
        state.withLock { $0.end = end }
    }

    /// Strict, so that a cut or overwritten file is not taken for a smaller number: digits without a leading zero, and a line feed. The number
    /// leaves room for blocks to come.
    private static func number(in contents: [UInt8]) -> UInt64? {
        guard contents.last == UInt8(ascii: "\n") else { return nil }
        let digits = contents.dropLast()
        guard let first = digits.first, first != UInt8(ascii: "0"), digits.allSatisfy({ (0x30...0x39).contains($0) }),
            let number = UInt64(String(decoding: digits, as: UTF8.self)), number <= UInt64.max / 2
        else { return nil }
        return number
    }
}
