import CLinux
import Glibc

/// What tells the processes that scripts have started from all others, wherever they have gone: a variable of their environment.
struct ScriptMarker: Hashable, Sendable {
    /// The variable's name.
    static let variable = "PROV_SESSION"

    /// The variable's value.
    let text: String
    private let assignment: [UInt8]

    /// A new one for a script and what it starts: 128 random bits, as 32 hexadecimal digits.
    init() {
        var generator = SystemRandomNumberGenerator()
        let digits = [generator.next(), generator.next()].map { half in
            let text = String(half, radix: 16)
            return String(repeating: "0", count: 16 - text.count) + text
        }
        self.init(variable: Self.variable, text: digits.joined())
    }

    /// Whoever has exactly this in its environment.
    init(variable: String, text: String) {
        self.text = text
        // With the NUL that ends it: another's value may begin with this one.
        assignment = Array("\(variable)=\(text)".utf8) + [0]
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
