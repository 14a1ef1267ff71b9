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

    /// What a look at a process's environment tells.
    enum Presence {
        case present
        case absent
        /// The process has ended, and nobody knows any more.
        case gone
    }

    /// Whether a process was started with the marker in its environment; absent also from one that may not be looked into. It blocks.
    ///
    /// One that is just taking on another program shows no environment for that moment; it is waited for.
    func presence(in process: pid_t) -> Presence {
        let start = ContinuousClock.now
        while true {
            let answer = look(into: process)
            if answer == 1 { return .present }
            if answer == 0 { return .absent }
            guard let stat = ProcessStat(of: process), stat.isAlive else { return .gone }
            let patience = stat.hasEmptyEnvironment ? Self.shortestLook : Self.longestExec
            guard answer == CLINUX_EMPTY, !stat.isKernelThread, ContinuousClock.now - start < patience else {
                return .absent
            }
            usleep(200)
        }
    }

    /// Until an environment that seems to be empty is taken to be so.
    private static let shortestLook = Duration.milliseconds(2)
    /// Until a process that has no place for an environment yet is given up.
    private static let longestExec = Duration.seconds(1)

    private func look(into process: pid_t) -> Int32 {
        let file = open("/proc/\(process)/environ", O_RDONLY | O_CLOEXEC)
        guard file >= 0 else { return -1 }
        defer { close(file) }
        return assignment.withUnsafeBytes { wanted in
            wanted.baseAddress.map { clinux_holds(file, $0, wanted.count) } ?? -1
        }
    }
}
