import Glibc

/// By which a script proves that it speaks of its own job: 128 random bits, in hexadecimal, for one attempt.
package struct JobToken: Hashable, Sendable {
    let text: String
    /// As whom the job's script runs; nil: as the daemon itself.
    var user: UInt32?

    package init() {
        var generator = SystemRandomNumberGenerator()
        let halves = (0..<2).map { _ in String(generator.next() as UInt64, radix: 16) }
        text = halves.map { String(repeating: "0", count: 16 - $0.count) + $0 }.joined()
    }

    /// Whether a process of this user may speak for the job: the script's own, the daemon's, and root.
    func allows(_ peer: UInt32) -> Bool { peer == 0 || peer == geteuid() || peer == user }
}
