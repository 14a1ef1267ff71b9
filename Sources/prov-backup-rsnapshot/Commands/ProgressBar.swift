import Daemon
import Glibc

/// How far a file has been read, on a terminal; nothing where standard error is none.
struct ProgressBar {
    private let title: String
    private let total: Int
    private let isShown: Bool
    private var done = 0
    private var shownPercent = -1

    /// - Parameter total: bytes; 0 when it is not known, and then nothing is shown.
    init(title: String, total: Int) {
        self.title = title
        self.total = total
        isShown = isatty(STDERR_FILENO) == 1 && total > 0
    }

    mutating func advance(by count: Int) {
        done += count
        let percent = min(100, total > 0 ? done * 100 / total : 0)
        guard isShown, percent != shownPercent else { return }
        shownPercent = percent
        let filled = percent * 30 / 100
        let bar = String(repeating: "#", count: filled) + String(repeating: ".", count: 30 - filled)
        StandardError.write("\r\(title) [\(bar)] \(percent) %")
    }

    /// Leaves the cursor on a line of its own.
    func finish() {
        if isShown, shownPercent >= 0 { StandardError.write("\n") }
    }
}
