import Glibc
import Synchronization

/// The processes that were started after a certain one: what it has started is among them.
///
/// The kernel gives numbers in a circle and tells the last one given (`ns_last_pid`), so for a short time these are the numbers from the process's own
/// to the last. How short is said by the length of the circle: it must not have been gone round.
struct LaterProcesses: Hashable, Sendable {
    /// So many numbers a second are more than machines give away.
    private static let mostPerSecond = 100_000.0
    /// With more numbers than these it is cheaper to list the processes that there are.
    private static let most: pid_t = 4_096

    private let first: pid_t
    private let start: ContinuousClock.Instant

    /// - Parameter start: a time before the process was started.
    init(than process: pid_t, startedAfter start: ContinuousClock.Instant) {
        first = process
        self.start = start
    }

    /// Calls the body with each number, also with those that are given meanwhile, for as long as it returns true. Not each is that of a process. It
    /// never blocks by itself.
    /// - Returns: false when they cannot be told, before or after some calls: all processes of the machine are to be looked at.
    func visit(_ body: (pid_t) -> Bool) -> Bool {
        var next = first + 1
        while true {
            // In this order: the time is to be that of the number, or later.
            let last = Kernel.shared.lastNumber
            guard let last, last >= next - 1, last - first <= Self.most,
                ContinuousClock.now - start < Kernel.shared.shortestCircle
            else { return false }
            guard last >= next else { return true }
            for number in next...last where !body(number) { return true }
            next = last + 1
        }
    }

    /// What the kernel tells of its numbers.
    private struct Kernel: Sendable {
        static let shared = Kernel()

        /// -1 where the kernel does not tell. It stays open for good.
        private let file = open("/proc/sys/kernel/ns_last_pid", O_RDONLY | O_CLOEXEC)
        /// The time that going half round the circle takes at least.
        let shortestCircle: Duration

        private init() {
            let file = open("/proc/sys/kernel/pid_max", O_RDONLY | O_CLOEXEC)
            let length = Self.number(in: file) ?? 0
            if file >= 0 { close(file) }
            shortestCircle = .seconds(Double(length) / 2 / mostPerSecond)
        }

        var lastNumber: pid_t? { Self.number(in: file) }

        private static func number(in file: Int32) -> pid_t? {
            withUnsafeTemporaryAllocation(of: CChar.self, capacity: 32) { text in
                guard let start = text.baseAddress, file >= 0 else { return nil }
                let count = pread(file, start, text.count - 1, 0)
                guard count > 0 else { return nil }
                start[count] = 0
                return pid_t(clamping: strtol(start, nil, 10))
            }
        }
    }
}
