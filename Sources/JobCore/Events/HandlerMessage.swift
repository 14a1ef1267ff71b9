import FoundationEssentials

/// What the interpreter says to the daemon: one JSON object a line.
enum HandlerMessage: Hashable, Sendable {
    /// What a handler asks of the daemon while it runs.
    enum Call: Hashable, Sendable {
        case run(command: String)
        case cancel(JobID)
        case volumeExists(name: String)
    }

    /// How an event went.
    struct Reply: Hashable, Sendable {
        var effect: EventEffect
        /// The last line of the traceback, when the handler failed.
        var error: String?
        /// The events of this job for which there is a handler.
        var jobEvents: Set<EventName>
        /// The events of the daemon for which there is a handler.
        var daemonEvents: Set<EventName>
    }

    /// The script was run.
    case loaded(daemonEvents: Set<EventName>)
    /// The script could not be run: Python's traceback.
    case failed(String)
    case call(Call)
    case done(number: Int, Reply)

    /// - Throws: when it is no message, which only code that takes hold of our pipes can bring about.
    init(parsing line: some Collection<UInt8>) throws {
        self = try JSONDecoder().decode(Self.self, from: Data(line))
    }
}

extension HandlerMessage: Decodable {
    private enum Key: String, CodingKey {
        case loaded, failed, call, argument, done, priority, level, volume, error, handlers, events
    }

    private enum CallName: String, Decodable { case run, cancel, volume }

    init(from decoder: any Decoder) throws {
        let fields = try decoder.container(keyedBy: Key.self)
        if let number = try fields.decodeIfPresent(Int.self, forKey: .done) {
            self = .done(
                number: number,
                Reply(
                    effect: EventEffect(
                        priority: try fields.decodeIfPresent(Int.self, forKey: .priority),
                        level: try fields.decodeIfPresent(String.self, forKey: .level),
                        volumeName: try fields.decodeIfPresent(String.self, forKey: .volume)),
                    error: try fields.decodeIfPresent(String.self, forKey: .error),
                    jobEvents: try fields.decodeIfPresent(Set<EventName>.self, forKey: .handlers) ?? [],
                    daemonEvents: try fields.decode(Set<EventName>.self, forKey: .events)))
        } else if let name = try fields.decodeIfPresent(CallName.self, forKey: .call) {
            let call: Call =
                switch name {
                case .run: .run(command: try fields.decode(String.self, forKey: .argument))
                case .cancel: .cancel(JobID(try fields.decode(UInt64.self, forKey: .argument)))
                case .volume: .volumeExists(name: try fields.decode(String.self, forKey: .argument))
                }
            self = .call(call)
        } else if let traceback = try fields.decodeIfPresent(String.self, forKey: .failed) {
            self = .failed(traceback)
        } else {
            self = .loaded(daemonEvents: try fields.decode(Set<EventName>.self, forKey: .loaded))
        }
    }
}
