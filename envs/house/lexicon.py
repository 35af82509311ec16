"""The words of instructions: what things, rooms, colours, sides and ways are called, and what joins the clauses.

The first name of each entry is the plain one; the follower reads all of them. Names are lower case, words apart by one
space. No name may stand for two things of one table, which a test checks.
"""

# Things, as catalogue.KINDS calls them.
THINGS: dict[str, tuple[str, ...]] = {
    "sofa": ("sofa", "couch", "settee", "loveseat"),
    "armchair": ("armchair", "easy chair", "lounge chair", "recliner"),
    "coffee table": ("coffee table", "low table", "cocktail table"),
    "television": ("television", "tv", "telly", "flatscreen"),
    "tv stand": ("tv stand", "media console", "television cabinet"),
    "bookshelf": ("bookshelf", "bookcase", "shelf of books", "bookshelves"),
    "fireplace": ("fireplace", "hearth", "mantelpiece"),
    "piano": ("piano", "upright piano", "keyboard"),
    "floor lamp": ("floor lamp", "standing lamp", "lamp stand"),
    "potted plant": ("potted plant", "houseplant", "plant", "fern"),
    "rug": ("rug", "carpet", "mat"),
    "painting": ("painting", "picture", "artwork", "framed print", "canvas"),
    "wall clock": ("wall clock", "round clock"),
    "kitchen counter": ("kitchen counter", "counter", "countertop", "worktop"),
    "stove": ("stove", "cooker", "oven", "range"),
    "refrigerator": ("refrigerator", "fridge", "icebox"),
    "dining table": ("dining table", "dinner table", "large table"),
    "chair": ("chair", "seat"),
    "sideboard": ("sideboard", "buffet", "credenza"),
    "chandelier": ("chandelier", "hanging lamp"),
    "fruit bowl": ("fruit bowl", "bowl of fruit"),
    "vase": ("vase", "flower vase"),
    "trash can": ("trash can", "garbage can", "wastebasket", "dustbin"),
    "bed": ("bed", "double bed"),
    "nightstand": ("nightstand", "bedside table", "night table"),
    "table lamp": ("table lamp", "reading lamp"),
    "wardrobe": ("wardrobe", "closet", "armoire"),
    "dresser": ("dresser", "chest of drawers", "bureau"),
    "mirror": ("mirror", "looking glass"),
    "bathtub": ("bathtub", "tub", "bath"),
    "shower": ("shower", "shower cabin", "shower stall"),
    "toilet": ("toilet", "commode", "lavatory bowl"),
    "sink": ("sink", "washbasin", "basin"),
    "bathroom mirror": ("bathroom mirror", "vanity mirror"),
    "washing machine": ("washing machine", "washer"),
    "dryer": ("dryer", "tumble dryer"),
    "laundry basket": ("laundry basket", "hamper", "clothes basket"),
    "ironing board": ("ironing board", "ironing table"),
    "desk": ("desk", "writing desk", "workstation"),
    "computer": ("computer", "monitor"),
    "filing cabinet": ("filing cabinet", "file cabinet", "cabinet of files"),
    "globe": ("globe", "world globe"),
    "coat rack": ("coat rack", "coat stand", "hat stand"),
    "shoe rack": ("shoe rack", "shoe shelf"),
    "console table": ("console table", "hall table", "entry table"),
    "bench": ("bench", "padded bench"),
    "grandfather clock": ("grandfather clock", "pendulum clock", "longcase clock"),
    "play table": ("play table", "activity table", "little table"),
    "toy chest": ("toy chest", "toy box", "trunk of toys"),
    "dollhouse": ("dollhouse", "toy house", "dolls house"),
    "rocking horse": ("rocking horse", "toy horse", "hobby horse"),
    "beach ball": ("beach ball", "bouncy ball", "ball"),
    "treadmill": ("treadmill", "running machine"),
    "exercise bike": ("exercise bike", "stationary bike", "spin bike"),
    "punching bag": ("punching bag", "boxing bag", "heavy bag"),
    "weight rack": ("weight rack", "dumbbell rack", "barbell stand"),
    "metal shelf": ("metal shelf", "storage shelf", "steel shelving"),
    "barrel": ("barrel", "drum", "keg"),
    "crate": ("crate", "wooden box", "packing case"),
    "bicycle": ("bicycle", "bike", "cycle"),
    "tool cabinet": ("tool cabinet", "tool chest", "toolbox"),
}

ROOMS: dict[str, tuple[str, ...]] = {
    "living room": ("living room", "lounge", "sitting room", "family room", "parlor"),
    "kitchen": ("kitchen", "kitchen area", "cooking area", "kitchenette"),
    "dining room": ("dining room", "dining area", "eating area", "breakfast room"),
    "bedroom": ("bedroom", "sleeping room", "bed chamber"),
    "bathroom": ("bathroom", "restroom", "washroom", "bath room", "powder room"),
    "office": ("office", "study", "home office", "workroom"),
    "hallway": ("hallway", "hall", "corridor", "passageway", "foyer"),
    "laundry room": ("laundry room", "laundry", "utility room", "wash house"),
    "library": ("library", "reading room", "book room"),
    "playroom": ("playroom", "nursery", "children's room", "kids room", "toy room"),
    "gym": ("gym", "exercise room", "fitness room", "workout room"),
    "storage room": ("storage room", "storeroom", "pantry", "box room", "stockroom"),
    "stairs": ("stairwell", "staircase room"),
}

COLOURS: dict[str, tuple[str, ...]] = {
    "red": ("red", "crimson", "scarlet", "cherry red", "ruby", "bright red"),
    "orange": ("orange", "tangerine", "apricot", "pumpkin colored"),
    "yellow": ("yellow", "golden", "mustard", "lemon yellow", "canary"),
    "green": ("green", "emerald", "olive", "leafy green", "grass green"),
    "blue": ("blue", "navy", "azure", "cobalt", "sapphire", "royal blue"),
    "purple": ("purple", "violet", "plum", "lavender", "mauve"),
    "pink": ("pink", "rosy", "salmon", "bubblegum", "fuchsia"),
    "brown": ("brown", "chestnut", "chocolate", "tan", "hazel", "mahogany"),
    "black": ("black", "ebony", "jet black", "onyx", "inky"),
    "white": ("white", "ivory", "snowy", "milky", "chalky"),
    "gray": ("gray", "grey", "silver", "ashen", "slate gray"),
    "teal": ("teal", "turquoise", "aqua", "sea green"),
}

# What adjectives may stand before a thing, by what it is like; they are true of all of its kind.
MANNERS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "seats": (
        ("sofa", "armchair", "bed"),
        ("comfortable", "cozy", "plush", "cushioned", "padded", "upholstered", "soft", "inviting", "roomy", "comfy",
         "squashy", "relaxing", "snug"),
    ),
    "chairs": (("chair", "bench"), ("simple", "sturdy", "straight", "plain", "ordinary", "modest", "four-legged", "basic")),
    "tables": (
        ("coffee table", "dining table", "desk", "console table", "play table", "nightstand"),
        ("wooden", "tidy", "polished", "flat", "smooth", "rectangular", "solid", "neat", "varnished", "handsome", "stout"),
    ),
    "storage": (
        ("bookshelf", "wardrobe", "sideboard", "dresser", "filing cabinet", "metal shelf", "tool cabinet", "toy chest",
         "shoe rack", "tv stand"),
        ("boxy", "spacious", "well-stocked", "hefty", "bulky", "practical", "upright", "capacious", "orderly", "closed",
         "heavy-looking", "square-edged"),
    ),
    "tall": (
        ("bookshelf", "wardrobe", "refrigerator", "floor lamp", "grandfather clock", "coat rack", "metal shelf", "shower"),
        ("tall", "lofty", "towering", "high", "head-high", "stately", "looming"),
    ),
    "appliances": (
        ("stove", "refrigerator", "washing machine", "dryer", "treadmill", "exercise bike"),
        ("modern", "electric", "shiny", "gleaming", "spotless", "humming", "technical", "up-to-date", "boxlike"),
    ),
    "bath": (
        ("bathtub", "toilet", "sink", "shower"),
        ("ceramic", "porcelain", "glossy", "clean", "sparkling", "enameled", "hygienic", "scrubbed"),
    ),
    "plants": (("potted plant",), ("leafy", "bushy", "lush", "thriving", "healthy", "well-watered")),
    "pictures": (("painting", "mirror"), ("framed", "decorative", "hanging", "wall-mounted", "pretty", "eye-catching")),
    "play": (
        ("rocking horse", "dollhouse", "beach ball", "toy chest", "play table"),
        ("cheerful", "playful", "childish", "colorful-looking", "merry", "charming", "cute"),
    ),
    "gym": (("punching bag", "weight rack", "treadmill", "exercise bike"), ("sporty", "athletic", "rugged", "robust", "professional")),
    "small": (("trash can", "laundry basket", "crate", "barrel", "vase"), ("compact", "round-shouldered", "stubby", "handy", "humble", "small", "squat", "little")),
    "old": (("piano", "grandfather clock", "fireplace", "barrel", "globe"), ("old-fashioned", "antique", "vintage", "classic", "venerable", "traditional", "timeless", "elegant")),
    "bikes": (("bicycle",), ("parked", "two-wheeled", "leaning", "unlocked")),
}  # fmt: skip

SIDES: dict[str, tuple[str, ...]] = {
    "left": ("on your left", "to your left", "on the left", "on the left side", "on your left-hand side", "at your left"),
    "right": ("on your right", "to your right", "on the right", "on the right side", "on your right-hand side", "at your right"),
    "ahead": ("straight ahead", "directly ahead", "in front of you", "right ahead of you", "up ahead", "dead ahead", "before you"),
    "behind": ("behind you", "at your back", "to your rear", "behind your back"),
}  # fmt: skip

DOORS = ("door", "doorway", "opening", "entrance", "door frame", "portal", "threshold")
PASSAGES = ("opening", "archway", "wide opening", "passage", "open doorway", "gap")
ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth")

THROUGH = (
    "go through", "walk through", "head through", "pass through", "step through", "move through", "continue through",
    "proceed through", "take", "use", "exit through", "leave through", "stroll through", "make your way through",
    "travel through", "go out through", "cut through", "choose", "pick", "slip through", "march through", "venture through",
)  # fmt: skip
INTO = ("into", "and enter", "to enter", "that leads into", "leading into", "leading to", "that opens into", "to get into", "to reach", "and step into", "toward", "and into", "so that you come into", "and come into", "which brings you into", "and arrive in")  # fmt: skip
ENTER = (
    "enter", "go into", "walk into", "head into", "step into", "move into", "continue into", "proceed into", "go over to",
    "head over to", "make your way into", "come into", "cross into", "wander into", "stroll into", "advance into",
)  # fmt: skip
TURN_LEFT = ("turn left", "turn to the left", "make a left", "take a left", "swing left", "veer left", "hang a left", "rotate left", "bear left", "go left", "pivot left", "face left")  # fmt: skip
TURN_RIGHT = tuple(each.replace("left", "right") for each in TURN_LEFT)
TURN_AROUND = (
    "turn around",
    "turn back",
    "make a u-turn",
    "spin around",
    "do an about-face",
    "swivel around",
    "reverse direction",
)
AHEAD = ("go straight", "walk forward", "walk straight", "keep straight on", "move ahead", "head straight", "advance", "continue forward", "go ahead", "carry straight on")  # fmt: skip
PAST = ("walk past", "go past", "pass", "pass by", "move past", "go by", "walk by", "continue past", "head past", "stroll past", "keep going past", "leave behind", "proceed past")  # fmt: skip
UP = ("go up", "climb", "walk up", "head up", "ascend", "take yourself up", "mount")
DOWN = ("go down", "walk down", "head down", "descend", "climb down", "come down")
STAIRS = ("the stairs", "the staircase", "the steps", "the flight of stairs", "the stairway")
UPSTAIRS = ("to the upper floor", "to the second floor", "to the floor above", "to the upper level", "all the way up")
DOWNSTAIRS = (
    "to the lower floor",
    "to the ground floor",
    "to the floor below",
    "to the lower level",
    "all the way down",
)
BESIDE = ("next to", "beside", "near", "close to", "adjacent to", "nearest to", "alongside")
STOP = (
    "stop", "wait", "halt", "come to a stop", "stand", "pause", "stay", "finish", "end your walk", "stop walking", "rest",
    "remain", "park yourself", "station yourself", "wait patiently", "stand still", "hold your position", "linger",
)  # fmt: skip
FRONT = ("in front of", "right in front of", "directly in front of", "at", "facing", "by", "next to", "near", "close to", "just before", "beside", "within reach of", "at the foot of")  # fmt: skip
MIDDLE = ("in the middle of", "in the center of", "at the center of", "in the very middle of", "halfway across")
INSIDE = (
    "just inside",
    "right inside",
    "just past the door of",
    "immediately inside",
    "barely inside",
    "at the edge of",
)

OPENERS = (
    "to begin", "to start", "firstly", "initially", "from where you are", "from here", "beginning here", "okay", "alright",
    "please", "now", "hello robot", "dear robot", "starting out", "at the outset", "for starters", "listen", "attention",
    "good morning", "good evening", "hi there", "excuse me", "whenever you are ready", "if you would", "as a beginning",
    "let us get moving", "follow these directions", "pay attention", "here is your route", "kindly",
)  # fmt: skip
LEAVE = ("leave", "exit", "get out of", "walk out of", "head out of", "depart from", "quit", "go out of", "come out of")
THEN = (
    ", then ", ". then ", " and then ", ". after that, ", ". next, ", "; ", ". now ", ". from there, ", ". afterwards, ",
    ". once there, ", ". having done that, ", ". when you are there, ", ". ", ". subsequently, ", ". following that, ",
    ", and after that ", ". thereafter, ", ". at that point, ",
)  # fmt: skip
LAST = (". finally, ", ". then ", ", then ", ". lastly, ", ", and ", ". to finish, ", ". in the end, ", ". ", ". ultimately, ", ". as your last step, ", ". to complete the walk, ")  # fmt: skip
CLOSERS = (
    "that is your destination", "you have arrived", "you are done", "that is the spot", "this is the end of the route",
    "do not go any farther", "no need to go anywhere else", "you should be within a step of it", "that is all",
    "it should be within arm's reach", "that completes the tour", "someone will meet you there", "thank you",
)  # fmt: skip
# Remarks on the room in which the walk ends: what it is for, what happens there.
REMARKS: dict[str, tuple[str, ...]] = {
    "living room": (
        "the family gathers there every evening", "guests watch films together there", "everybody relaxes in that spot after work",
        "visitors are always welcomed there", "people chat for hours there", "we play cards there on rainy sundays",
        "the cat naps there all afternoon", "you may hear music playing", "that is where we unwind",
    ),
    "kitchen": (
        "meals are cooked there", "it smells of fresh bread and coffee", "somebody is probably frying eggs",
        "that is where soup simmers", "knives and spoons are kept there", "mind the hot pans", "dinner is prepared there",
        "the cook washes vegetables there", "you might smell garlic and onions", "lunch is almost ready",
    ),
    "dining room": (
        "the household eats there together", "supper is served there", "that is where birthdays are celebrated",
        "plates and glasses are laid out for eight people", "candles burn there during holidays", "we have breakfast there at seven",
        "holiday feasts take place there", "grandparents sit there for roast and gravy",
    ),
    "bedroom": (
        "someone sleeps there at night", "keep your voice down, a child may be dreaming", "pillows and blankets belong there",
        "pajamas are folded there each morning", "the curtains stay shut until sunrise", "that is where we rest",
        "a baby might be sleeping", "the alarm rings there at dawn", "bedtime stories are told there",
    ),
    "bathroom": (
        "people wash their hands there", "teeth are brushed there", "towels and soap are provided", "the tiles can be slippery when wet",
        "steam may cloud the glass", "a warm bath awaits", "shampoo is kept on the ledge", "somebody forgot to flush", "you may hear water dripping",
    ),
    "office": (
        "letters are written there", "someone works there from nine until five", "invoices and folders pile up there",
        "phone calls are answered there", "a laptop hums all day", "taxes are done there each april", "important documents are filed there",
        "homework gets finished there", "please do not disturb the meeting",
    ),
    "hallway": (
        "coats and boots are left there", "everyone passes that place many times a day", "umbrellas drip there in november",
        "it links most of the house", "keys are usually dropped there", "the mail lands there", "footsteps echo there",
    ),
    "laundry room": (
        "dirty clothes are washed there", "shirts and socks are ironed there", "detergent is stored there", "it smells of clean linen",
        "the machines rumble and spin", "stains get scrubbed out there", "wet trousers are hung up to dry", "lost buttons are sewn back on there",
    ),
    "library": (
        "novels and encyclopedias line that place", "silence is appreciated there", "poems are read aloud there on winter nights",
        "thousands of pages wait to be turned", "scholars would love it", "dusty atlases and dictionaries are kept there",
        "history and science are studied there", "an author once wrote chapters there",
    ),
    "playroom": (
        "kids build castles out of blocks there", "dolls and puzzles lie around", "toddlers giggle and crawl there", "watch your step, marbles roll",
        "crayons have left marks everywhere", "puppets perform there", "that is where games are invented", "laughter fills that corner",
        "a toy train circles the carpet",
    ),
    "gym": (
        "muscles are trained there", "somebody lifts weights there before breakfast", "athletes stretch and sweat there",
        "push-ups are counted aloud there", "runners warm up there", "it gets loud during workouts", "your heart would beat faster there",
        "yoga is practised there twice weekly",
    ),
    "storage room": (
        "old boxes and suitcases are stacked there", "tools and paint cans are hoarded there", "cobwebs hang from the ceiling",
        "nobody has tidied it for ages", "winter tires and skis are stowed there", "broken gadgets end up there", "jars of jam last there for years",
        "dust covers nearly everything",
    ),
}  # fmt: skip
# Remarks that say nothing about the way: of how to walk.
MANNER = (
    "carefully", "slowly", "calmly", "without hurry", "briskly", "quietly", "steadily", "at a comfortable pace", "gently",
    "with caution", "without bumping into anything", "at your leisure", "confidently", "quickly", "smoothly", "cautiously",
    "purposefully", "casually", "politely", "as usual", "without stopping", "with ease", "straightaway", "promptly",
    "keeping an eye open", "taking small strides", "taking long strides", "on tiptoe", "with a spring in your stride",
    "as fast as you can", "for a couple of meters", "for several feet", "just a little way", "a short distance",
    "in a relaxed fashion", "taking care not to scratch anything", "respectfully", "swiftly", "lightly", "attentively",
    "diligently", "nimbly", "unhurriedly", "silently", "gracefully", "directly", "patiently", "deliberately", "boldly",
    "without hesitation", "without delay", "in one go", "with your head held upright", "avoiding obstacles",
)  # fmt: skip
FLOORS: dict[str, tuple[str, ...]] = {
    "planks": ("with the wooden floor", "with floorboards", "with the hardwood floor", "with the parquet"),
    "checks": ("with the checkered floor", "with the checkerboard tiles"),
    "tiles": ("with the tiled floor", "with tiles on the floor", "with the stone tiles"),
    "carpet": ("with the carpeted floor", "with wall-to-wall carpet", "with the soft flooring"),
    "dots": ("with the dotted floor", "with the spotted floor"),
    "plain": ("with the bare floor", "with the plain concrete floor"),
    "wood": ("with the wood underfoot",),
}
