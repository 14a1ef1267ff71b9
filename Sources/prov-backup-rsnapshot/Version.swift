/// The version of this program.
enum Version {
    static let description = "0.1.0"
    /// The day of its release.
    static let date = "2026-11-21"
}
