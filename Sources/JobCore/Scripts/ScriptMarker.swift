import CLinux
import Glibc

/// What tells the processes that a script has started from all others, wherever they have gone: 128 random bits in their environment.
struct ScriptMarker: Hashable, Sendable {
    /// The variable's name.
    static let variable = "PROV_SESSION"

    /// 32 hexadecimal digits.
    let text: String
    private let assignment: [UInt8]

    /// A new one.
    init() {
        var generator = SystemRandomNumberGenerator()
        let digits = [generator.next(), generator.next()].map { half in
            let text = String(half, radix: 16)
            return String(repeating: "0", count: 16 - text.count) + text
        }
        text = digits.joined()
        assignment = Array("\(Self.variable)=\(text)".utf8)
    }

    /// Whether a process was started with the marker in its environment. It blocks.
    /// - Returns: also false when the process has ended or may not be looked into.
    func isInEnvironment(of process: pid_t) -> Bool {
        let file = open("/proc/\(process)/environ", O_RDONLY | O_CLOEXEC)
        guard file >= 0 else { return false }
        defer { close(file) }
        return assignment.withUnsafeBytes { wanted in
            wanted.baseAddress.map { clinux_holds(file, $0, wanted.count) } == 1
        }
    }
}
