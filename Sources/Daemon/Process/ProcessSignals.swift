import CLinux
import EventLoop
import Glibc
import JobCore
package import SystemPackage

/// Signals of this process, received on the event loop (signalfd(2)) until the process ends.
///
/// They are blocked in the calling thread and in all threads that it starts later, so this must be created before other threads. Child processes
/// start with no signal blocked.
@MainActor package final class ProcessSignals {
    /// The received signals, for one listener. Earlier signals wait for the listener.
    package nonisolated let received: AsyncStream<Int32>
    /// Signals that end the process at once, as by default.
    package var deadly: Set<Int32> = []
    private let next: AsyncStream<Int32>.Continuation

    /// Blocks signals: the kernel keeps them until they are received.
    package nonisolated static func hold(_ numbers: Set<Int32>) {
        var mask = mask(numbers)
        pthread_sigmask(SIG_BLOCK, &mask, nil)
    }

    /// - Throws: if the limit on open files is reached.
    package init(_ numbers: Set<Int32>) throws(Errno) {
        (received, next) = AsyncStream.makeStream()
        Self.hold(numbers)
        var mask = Self.mask(numbers)
        let descriptor = signalfd(-1, &mask, Int32(SFD_CLOEXEC | SFD_NONBLOCK))
        guard descriptor >= 0 else { throw Errno(rawValue: errno) }
        do throws(Errno) {
            try EventLoop.shared.watch(descriptor, for: .readable) { _ in self.take(from: descriptor) }
        } catch {
            close(descriptor)
            throw error
        }
    }

    private func take(from descriptor: Int32) {
        var signal = signalfd_siginfo()
        while read(descriptor, &signal, MemoryLayout<signalfd_siginfo>.size) > 0 {
            let number = Int32(signal.ssi_signo)
            if deadly.contains(number) { Self.end(by: number) }
            next.yield(number)
        }
    }

    private static func end(by number: Int32) {
        signal(number, SIG_DFL)
        var mask = mask([number])
        pthread_sigmask(SIG_UNBLOCK, &mask, nil)
        raise(number)
    }

    private nonisolated static func mask(_ numbers: Set<Int32>) -> sigset_t {
        var mask = sigset_t()
        sigemptyset(&mask)
        for number in numbers { sigaddset(&mask, number) }
        return mask
    }
}

/// Notifies systemd of the state of the service (sd_notify(3)). Without systemd it does nothing.
package struct ServiceNotifier: Sendable {
    package enum State: String, Sendable {
        /// The start or a reload is complete.
        case ready = "READY=1"
        /// The settings are being reloaded; the time that `Type=notify-reload` requires is added.
        case reloading = "RELOADING=1"
        /// The service stops.
        case stopping = "STOPPING=1"
        /// The service is alive.
        case watchdog = "WATCHDOG=1"
    }

    private let socketName: String?

    /// systemd restarts the service if it gets no `watchdog` for this long; nil: no watchdog. Notify it at twice this rate.
    package let watchdogInterval: Duration?

    /// - Parameter environment: `NOTIFY_SOCKET` (a path, or `@` and an abstract name), `WATCHDOG_USEC`, `WATCHDOG_PID`.
    package init(environment: [String: String]) {
        let name = environment["NOTIFY_SOCKET"] ?? ""
        socketName = name.isEmpty ? nil : name
        watchdogInterval = Self.interval(environment, pid: getpid())
    }

    /// Sends a state, without waiting.
    package func notify(_ state: State) throws(CommandFailure) {
        guard let socketName else { return }
        let time = state == .reloading ? "\nMONOTONIC_USEC=\(Self.monotonicMicroseconds())" : ""
        do throws(Errno) {
            try Self.send(Array((state.rawValue + time).utf8), to: try UnixSocketAddress(socketName))
        } catch {
            throw CommandFailure(
                "NOTIFY_SOCKET \(socketName): systemd was not notified: \(error)",
                hint: "check Type and NotifyAccess of the unit")
        }
    }

    private static func monotonicMicroseconds() -> Int64 {
        var now = timespec()
        clock_gettime(CLOCK_MONOTONIC, &now)
        return Int64(now.tv_sec) * 1_000_000 + Int64(now.tv_nsec) / 1_000
    }

    private static func interval(_ environment: [String: String], pid: pid_t) -> Duration? {
        guard let microseconds = environment["WATCHDOG_USEC"].flatMap(Int64.init), microseconds > 0 else { return nil }
        // The variables may be inherited from a service that started this process.
        if let addressee = environment["WATCHDOG_PID"], pid_t(addressee) != pid { return nil }
        return .microseconds(microseconds)
    }

    private static func send(_ message: [UInt8], to address: UnixSocketAddress) throws(Errno) {
        let descriptor = socket(AF_UNIX, Int32(SOCK_DGRAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
        guard descriptor >= 0 else { throw Errno(rawValue: errno) }
        defer { close(descriptor) }
        let sent = address.withSocketAddress { pointer, length in
            sendto(
                descriptor, message, message.count, Int32(MSG_NOSIGNAL) | Int32(MSG_DONTWAIT), pointer, length)
        }
        guard sent == message.count else { throw Errno(rawValue: errno) }
    }
}
