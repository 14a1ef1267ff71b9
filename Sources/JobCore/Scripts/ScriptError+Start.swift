import Glibc
import SystemPackage

extension ScriptError {
    /// Finds out why a program could not be started.
    ///
    /// The kernel's number alone does not tell: a missing interpreter and a missing script are both ENOENT. So look at what is there now;
    /// it may have been changed since, and then the message speaks of the present.
    /// - Parameter errno: what the start itself failed with, where it is known.
    static func start(of invocation: ScriptInvocation, errno number: Errno?) -> ScriptError {
        let path = invocation.executable
        switch number {
        case Errno.argListTooLong:
            return ScriptError(
                .tooLong, path: path, errno: number,
                reason: "arguments and environment are longer than the kernel allows",
                cure: "shorten them (getconf ARG_MAX tells the limit)")
        case Errno.execFormatError:
            return ScriptError(
                .format, path: path, errno: number, reason: "is neither a program of this machine nor a script",
                cure: "let its first line name an interpreter, such as #!/bin/sh")
        case Errno.textFileBusy:
            return ScriptError(
                .busy, path: path, errno: number, reason: "is being written",
                cure: "try again when it is closed (lsof \(path.shellWord) tells by whom it is open)")
        case let number? where number.isShortage || number == .resourceTemporarilyUnavailable:
            return ScriptError(
                .resources, path: path, errno: number,
                reason: "cannot be started for want of descriptors, memory or processes",
                cure: number.shortageHint(at: path.removingLastComponent()))
        default:
            return atPath(path, errno: number)
        }
    }

    /// - Parameter errno: what waiting for a script that has ended failed with.
    static func lostEnd(of invocation: ScriptInvocation, _ session: ScriptSession, errno number: Errno) -> ScriptError {
        if case .descendants = session.extent { return lostBelowInit(of: invocation) }
        return ScriptError(
            .lost, path: invocation.executable, errno: number, reason: "has ended, and nobody knows how",
            cure: "see that nothing else in this program waits for all children (waitpid(-1))")
    }

    /// The init process of a script was killed, and with it the script's own process.
    static func lostBelowInit(of invocation: ScriptInvocation) -> ScriptError {
        ScriptError(
            .lost, path: invocation.executable, errno: .noChildProcess,
            reason: "was killed, since its parent process (\(ScriptInit.name)) was",
            cure: "look for what it has left running, and see that it kills neither its parent nor all of its user")
    }

    /// - Parameter errno: what opening or entering the working folder failed with.
    static func workingDirectory(of invocation: ScriptInvocation, errno number: Errno) -> ScriptError {
        let path = invocation.workingDirectory
        switch number {
        case _ where number.isShortage: return start(of: invocation, errno: number)
        default:
            return ScriptError(
                .workingDirectory, path: path, errno: number, reason: "cannot be the working folder",
                cure: "see that it exists, is a folder and can be entered (ls -ld \(path.shellWord))")
        }
    }

    private static func atPath(_ path: FilePath, errno number: Errno?) -> ScriptError {
        var status = stat()
        guard path.withPlatformString({ stat($0, &status) }) == 0 else {
            let found = Errno(rawValue: Glibc.errno)
            return ScriptError(
                found == .noSuchFileOrDirectory ? .notFound : .other, path: path, errno: found,
                reason: "cannot be started: it cannot be found or reached",
                cure: "install it, or correct the setting that names it (namei -l \(path.shellWord) shows every folder)"
            )
        }
        guard status.st_mode & S_IFMT == S_IFREG else {
            return ScriptError(
                .notAFile, path: path, errno: number, reason: "cannot be started: it is no regular file",
                cure: "correct the setting that names it")
        }
        guard path.withPlatformString({ faccessat(AT_FDCWD, $0, X_OK, AT_EACCESS) }) == 0 else {
            return ScriptError(
                .notExecutable, path: path, errno: Errno(rawValue: Glibc.errno), reason: "is not executable",
                cure: "chmod u+x \(path.shellWord) (or mount its file system without noexec)")
        }
        guard let interpreter = interpreter(of: path) else {
            return ScriptError(
                .other, path: path, errno: number, reason: "cannot be started",
                cure: "try it by hand: env -i \(path.shellWord)")
        }
        let there = interpreter.withPlatformString({ faccessat(AT_FDCWD, $0, X_OK, AT_EACCESS) }) == 0
        let cause = there ? number : Errno(rawValue: Glibc.errno)
        return ScriptError(
            .interpreter, path: path, errno: cause,
            reason: "cannot be started by the interpreter its first line names, \(interpreter.printable)",
            cure:
                "install the interpreter, or correct the first line (a carriage return at its end counts as part of the name)"
        )
    }

    /// The interpreter of a `#!` line, or nil.
    private static func interpreter(of path: FilePath) -> FilePath? {
        guard let file = path.withPlatformString({ fopen($0, "re") }) else { return nil }
        defer { fclose(file) }
        let beginning = [UInt8](unsafeUninitializedCapacity: 256) { buffer, count in
            count = fread(buffer.baseAddress, 1, buffer.count, file)
        }
        guard beginning.starts(with: "#!".utf8) else { return nil }
        let blanks: Set<UInt8> = [UInt8(ascii: " "), UInt8(ascii: "\t")]
        let word = beginning.dropFirst(2).drop(while: blanks.contains)
            .prefix { !blanks.contains($0) && $0 != UInt8(ascii: "\n") && $0 != 0 }
        return word.isEmpty ? nil : FilePath(String(decoding: word, as: UTF8.self))
    }
}
