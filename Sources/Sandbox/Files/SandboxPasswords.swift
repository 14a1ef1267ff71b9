import SystemPackage

/// The passwords of a sandbox: random, made once for its data, each in a file that only its owner can read.
struct SandboxPasswords: Sendable {
    static let names = ["manager", "daemon", "selfcare"]

    let manager: String
    let daemon: String
    let selfcare: String

    /// Makes passwords for a new, empty directory.
    static func make(in files: SandboxFiles) throws(SandboxError) -> SandboxPasswords {
        for name in names { try TextFile.write(random() + "\n", to: files.passwordFile(name)) }
        return try SandboxPasswords(readingFrom: files)
    }

    /// Reads the passwords that go with the data in the directory.
    init(readingFrom files: SandboxFiles) throws(SandboxError) {
        manager = try Self.line(of: files.passwordFile("manager"))
        daemon = try Self.line(of: files.passwordFile("daemon"))
        selfcare = try Self.line(of: files.passwordFile("selfcare"))
    }

    private static func line(of file: FilePath) throws(SandboxError) -> String {
        guard let line = try TextFile.read(file).split(separator: "\n").first else {
            throw SandboxError(.directory, "\(file) is empty", hint: "stop the sandbox and start it in a new directory")
        }
        return String(line)
    }

    private static func random() -> String {
        let alphabet = Array("abcdefghijkmnopqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789")
        var generator = SystemRandomNumberGenerator()
        return String((0..<24).compactMap { _ in alphabet.randomElement(using: &generator) })
    }
}
