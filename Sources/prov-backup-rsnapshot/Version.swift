/// The version of this program.
enum Version {
    static let description = "0.1.0"
}
