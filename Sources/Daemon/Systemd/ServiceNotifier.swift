import Glibc
import JobCore
package import SystemPackage

/// Tells systemd how the service is (sd_notify(3)). Outside systemd it does nothing.
package struct ServiceNotifier: Sendable {
    /// One thing to tell.
    package enum State: Hashable, Sendable {
        /// Start, or a reload, is complete.
        case ready
        /// One line for `systemctl status`.
        case status(String)
        /// The settings are being read anew; the time is added here, as `Type=notify-reload` wants it.
        case reloading
        /// The service is going down.
        case stopping
        /// The service is alive.
        case watchdog
    }

    private let socketName: String?

    /// How long systemd waits for a sign of life before it acts; `nil` when it does not wait. Give one at least twice as
    /// often.
    package let watchdogInterval: Duration?

    /// - Parameter environment: `NOTIFY_SOCKET` (a path, or `@` and an abstract name), `WATCHDOG_USEC`, `WATCHDOG_PID`.
    package init(environment: [String: String]) {
        let name = environment["NOTIFY_SOCKET"] ?? ""
        socketName = name.isEmpty ? nil : name
        watchdogInterval = Self.interval(environment, pid: getpid())
    }

    /// Tells several things in one message. It never waits.
    ///
    /// - Throws: what the kernel said; the service itself is not affected by it.
    package func notify(_ states: State...) throws(ServiceNotifierError) {
        guard let socketName else { return }
        let text = states.map(Self.assignment).joined(separator: "\n")
        do throws(Errno) {
            try Self.send(Array(text.utf8), to: try UnixSocketAddress(socketName))
        } catch {
            throw ServiceNotifierError(socket: socketName, code: error)
        }
    }

    private static func assignment(_ state: State) -> String {
        switch state {
        case .ready: "READY=1"
        case .status(let text): "STATUS=\(OneLine.of(text))"
        case .reloading: "RELOADING=1\nMONOTONIC_USEC=\(monotonicMicroseconds())"
        case .stopping: "STOPPING=1"
        case .watchdog: "WATCHDOG=1"
        }
    }

    private static func monotonicMicroseconds() -> Int64 {
        var now = timespec()
        clock_gettime(CLOCK_MONOTONIC, &now)
        return Int64(now.tv_sec) * 1_000_000 + Int64(now.tv_nsec) / 1_000
    }

    private static func interval(_ environment: [String: String], pid: pid_t) -> Duration? {
        guard let microseconds = environment["WATCHDOG_USEC"].flatMap(Int64.init), microseconds > 0 else { return nil }
        // The variables may have been inherited from a service that started us.
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

/// A message that did not reach systemd.
package struct ServiceNotifierError: Error, Hashable, Sendable, CustomStringConvertible {
    /// What `NOTIFY_SOCKET` says.
    package let socket: String
    /// What the system said.
    package let code: Errno

    /// The socket, and what the system said.
    package var description: String { "NOTIFY_SOCKET \(socket): systemd was not told: \(code)" }
}
